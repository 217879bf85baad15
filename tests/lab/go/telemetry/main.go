// Command collector takes OpenTelemetry traces, OTLP over gRPC and over HTTP (binary protobuf), reads them with the
// official definitions, and writes each request to standard output as one line of OTLP/JSON.
//
//	collector GRPC_ADDRESS HTTP_ADDRESS
package main

import (
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/grpc"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
)

type receiver struct {
	collector.UnimplementedTraceServiceServer
	mutex sync.Mutex
}

// Export takes what came over gRPC.
func (r *receiver) Export(_ context.Context, got *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	line, err := protojson.Marshal(got)
	if err != nil {
		return nil, err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	fmt.Fprintln(os.Stdout, string(line))
	return &collector.ExportTraceServiceResponse{}, nil
}

// ServeHTTP takes what came over HTTP.
func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	if request.Method != http.MethodPost || request.URL.Path != "/v1/traces" || request.Header.Get("Content-Type") != "application/x-protobuf" {
		http.Error(w, "POST application/x-protobuf to /v1/traces", http.StatusUnsupportedMediaType)
		return
	}
	body := io.Reader(request.Body)
	if request.Header.Get("Content-Encoding") == "gzip" {
		plain, err := gzip.NewReader(body)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		body = plain
	}
	data, err := io.ReadAll(body)
	got := &collector.ExportTraceServiceRequest{}
	if err == nil {
		err = proto.UnmarshalOptions{}.Unmarshal(data, got)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	if _, err := r.Export(request.Context(), got); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func main() {
	both := &receiver{}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	server := grpc.NewServer()
	collector.RegisterTraceServiceServer(server, both)
	go func() { log.Fatal(server.Serve(listener)) }()
	log.Fatal(http.ListenAndServe(os.Args[2], both))
}
