// Command timestamp-server is timestamp-authority's API, with keys of its own made at the start, on one loopback port.
// Its own cmd/timestamp-server serves metrics on port 2112 of every address, whatever its flags say
// (pkg/server/prometheus.go), so that no machine runs two.
package main

import (
	"flag"
	"log"
	"time"

	"github.com/sigstore/timestamp-authority/v2/pkg/server"
	"github.com/spf13/viper"
)

const (
	timeout = 30 * time.Second
	policy  = "1.3.6.1.4.1.57264.2" // cmd/timestamp-server's default
)

func main() {
	port := flag.Int("port", 0, "port on 127.0.0.1")
	flag.Parse()
	viper.Set("timestamp-signer", "memory")
	viper.Set("timestamp-signer-hash", "sha256")
	viper.Set("default-policy-oid", policy)
	viper.Set("accepted-policy-oids", []string{policy})
	viper.Set("max-request-body-size", 1<<20)
	authority := server.NewRestAPIServer("127.0.0.1", *port, []string{"http"}, false, timeout, timeout)
	authority.CleanupTimeout = time.Second
	log.Fatal(authority.Serve())
}
