// A registry made far and busy: a reverse proxy over TLS that delays answers, turns some requests away, and counts all.
//
// Each write of a connection reaches the client one round trip late, the first one two (TCP's and TLS's). Below
// /v2/again/N/ for any N stands everything that the registry has, so that what was asked for once is new to the client.
// The control port speaks plain HTTP: GET / answers the counts as JSON, POST /?delay=20ms&refuse=0.5 sets.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"log"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	delay  atomic.Int64  // nanoseconds
	refuse atomic.Uint64 // bits of a float64: the share of requests that is answered 429
	mutex  sync.Mutex
	counts = map[string]int{}
	again  = regexp.MustCompile(`^/v2/again/[^/]+/`)
)

func main() {
	listen := flag.String("listen", "", "host:port of the registry")
	control := flag.String("control", "", "host:port of the control")
	upstream := flag.String("upstream", "", "base URL of the real registry")
	ca := flag.String("ca", "", "PEM file of its CA")
	cert := flag.String("cert", "", "PEM file of the certificate to show")
	key := flag.String("key", "", "PEM file of its key")
	flag.Parse()
	if err := run(*listen, *control, *upstream, *ca, *cert, *key); err != nil {
		fmt.Fprintln(os.Stderr, "far:", err)
		os.Exit(1)
	}
}

func run(listen, control, upstream, ca, cert, key string) error {
	target, err := url.Parse(upstream)
	if err != nil {
		return err
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	pair, err := tls.LoadX509KeyPair(cert, key)
	if err != nil {
		return err
	}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(request *httputil.ProxyRequest) {
			request.SetURL(target)
			request.Out.URL.Path = again.ReplaceAllString(request.In.URL.Path, "/v2/")
		},
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, MaxIdleConnsPerHost: 256},
	}
	listener, err := net.Listen("tcp", listen)
	if err != nil {
		return err
	}
	go func() { log.Fatal(http.ListenAndServe(control, http.HandlerFunc(controlled))) }()
	secured := tls.NewListener(farListener{listener}, &tls.Config{
		Certificates: []tls.Certificate{pair}, NextProtos: []string{"http/1.1"},
	})
	return http.Serve(secured, http.HandlerFunc(func(response http.ResponseWriter, request *http.Request) {
		count(kind(request))
		if rand.Float64() < math.Float64frombits(refuse.Load()) {
			count("refused")
			http.Error(response, `{"errors":[{"code":"TOOMANYREQUESTS"}]}`, http.StatusTooManyRequests)
			return
		}
		proxy.ServeHTTP(response, request)
	}))
}

func controlled(response http.ResponseWriter, request *http.Request) {
	query := request.URL.Query()
	if text := query.Get("delay"); text != "" {
		if parsed, err := time.ParseDuration(text); err == nil {
			delay.Store(int64(parsed))
		}
	}
	if text := query.Get("refuse"); text != "" {
		if parsed, err := strconv.ParseFloat(text, 64); err == nil {
			refuse.Store(math.Float64bits(parsed))
		}
	}
	mutex.Lock()
	defer mutex.Unlock()
	_ = json.NewEncoder(response).Encode(counts)
}

func count(name string) {
	mutex.Lock()
	counts[name]++
	mutex.Unlock()
}

// What was asked for. Every request counts as one kind.
func kind(request *http.Request) string {
	for _, name := range []string{"manifests", "blobs", "referrers"} {
		if strings.Contains(request.URL.Path, "/"+name+"/") {
			return request.Method + " " + name
		}
	}
	return request.Method + " other"
}

type farListener struct{ net.Listener }

func (listener farListener) Accept() (net.Conn, error) {
	conn, err := listener.Listener.Accept()
	if err != nil {
		return nil, err
	}
	far := &farConn{Conn: conn, queue: make(chan chunk, 1024)}
	go far.deliver()
	return far, nil
}

type chunk struct {
	at   time.Time
	data []byte
}

// A connection whose writes arrive late. They never block for the way: as much as fits the queue may be under way.
type farConn struct {
	net.Conn
	mutex   sync.Mutex
	queue   chan chunk
	pending atomic.Int64
	closed  bool
	greeted bool
}

func (far *farConn) Write(data []byte) (int, error) {
	far.mutex.Lock()
	defer far.mutex.Unlock()
	if far.closed {
		return 0, net.ErrClosed
	}
	wait := time.Duration(delay.Load())
	if !far.greeted {
		far.greeted = true
		wait *= 2
	}
	if wait == 0 && far.pending.Load() == 0 {
		return far.Conn.Write(data)
	}
	far.pending.Add(1)
	far.queue <- chunk{time.Now().Add(wait), append([]byte(nil), data...)}
	return len(data), nil
}

func (far *farConn) Close() error {
	far.mutex.Lock()
	defer far.mutex.Unlock()
	if !far.closed {
		far.closed = true
		close(far.queue)
	}
	return nil
}

func (far *farConn) deliver() {
	for one := range far.queue {
		time.Sleep(time.Until(one.at))
		_, _ = far.Conn.Write(one.data)
		far.pending.Add(-1)
	}
	_ = far.Conn.Close()
}
