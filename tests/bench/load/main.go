// Load generator of the benchmarks: keep-alive HTTP/1.1 over TLS, as kube-apiserver calls a webhook.
//
// Requests come from a file, one JSON object a line: {"method", "path", "headers", "body"}; they are sent round robin.
// The result is one JSON object on stdout. A request failed if its status is not 2xx, or if -expect is given and its
// body does not hold that text.
package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

type request struct {
	Method  string            `json:"method"`
	Path    string            `json:"path"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

type result struct {
	Requests     int     `json:"requests"`
	Failed       int64   `json:"failed"`
	FirstFailure string  `json:"first_failure"`
	Seconds      float64 `json:"seconds"`
	Rate         float64 `json:"rate"`
	P50          float64 `json:"p50_ms"`
	P99          float64 `json:"p99_ms"`
	Max          float64 `json:"max_ms"`
}

func main() {
	url := flag.String("url", "", "base URL")
	ca := flag.String("ca", "", "PEM file of the server's CA")
	cert := flag.String("cert", "", "PEM file of a client certificate")
	key := flag.String("key", "", "PEM file of its key")
	file := flag.String("requests", "", "file of requests, one JSON object a line")
	inFlight := flag.Int("c", 1, "requests in flight")
	warmUp := flag.Duration("warm-up", time.Second, "time before measuring")
	duration := flag.Duration("duration", 5*time.Second, "time to measure")
	count := flag.Int64("count", 0, "stop after so many requests; no warm-up then")
	expect := flag.String("expect", "", "text that each answer must hold")
	flag.Parse()
	if err := run(*url, *ca, *cert, *key, *file, *inFlight, *warmUp, *duration, *count, *expect); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(url, ca, cert, key, file string, inFlight int, warmUp, duration time.Duration, count int64, expect string) error {
	requests, err := read(file)
	if err != nil {
		return err
	}
	client, err := newClient(ca, cert, key, inFlight)
	if err != nil {
		return err
	}
	var next, failed atomic.Int64
	var first sync.Once
	firstFailure := ""
	// A count is met exactly: each request is sent once, and there is no warm-up.
	measureFrom := time.Now().Add(warmUp)
	if count > 0 {
		measureFrom = time.Now()
		duration = time.Hour
	}
	end := measureFrom.Add(duration)
	latencies := make([][]time.Duration, inFlight)
	var group sync.WaitGroup
	for worker := range inFlight {
		group.Add(1)
		go func() {
			defer group.Done()
			for {
				number := next.Add(1) - 1
				if count > 0 && number >= count {
					return
				}
				started := time.Now()
				if started.After(end) {
					return
				}
				problem := send(client, url, requests[number%int64(len(requests))], expect)
				if started.Before(measureFrom) {
					continue
				}
				latencies[worker] = append(latencies[worker], time.Since(started))
				if problem != "" {
					failed.Add(1)
					first.Do(func() { firstFailure = problem })
				}
			}
		}()
	}
	group.Wait()
	took := time.Since(measureFrom).Seconds()
	var all []time.Duration
	for _, some := range latencies {
		all = append(all, some...)
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	return json.NewEncoder(os.Stdout).Encode(result{
		Requests: len(all), Failed: failed.Load(), FirstFailure: firstFailure, Seconds: took,
		Rate: float64(len(all)) / took, P50: quantile(all, 0.50), P99: quantile(all, 0.99), Max: quantile(all, 1),
	})
}

func read(file string) ([]request, error) {
	handle, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer handle.Close()
	scanner := bufio.NewScanner(handle)
	scanner.Buffer(nil, 16<<20)
	var requests []request
	for scanner.Scan() {
		var one request
		if err := json.Unmarshal(scanner.Bytes(), &one); err != nil {
			return nil, err
		}
		requests = append(requests, one)
	}
	if len(requests) == 0 {
		return nil, fmt.Errorf("%s holds no request", file)
	}
	return requests, scanner.Err()
}

func newClient(ca, cert, key string, inFlight int) (*http.Client, error) {
	pem, err := os.ReadFile(ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s holds no certificate", ca)
	}
	config := &tls.Config{RootCAs: pool, NextProtos: []string{"http/1.1"}}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return nil, err
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return &http.Client{
		Timeout:   30 * time.Second,
		Transport: &http.Transport{TLSClientConfig: config, MaxIdleConnsPerHost: inFlight, MaxConnsPerHost: inFlight},
	}, nil
}

func send(client *http.Client, url string, one request, expect string) string {
	message, err := http.NewRequest(one.Method, url+one.Path, bytes.NewReader([]byte(one.Body)))
	if err != nil {
		return err.Error()
	}
	for name, value := range one.Headers {
		message.Header.Set(name, value)
	}
	answer, err := client.Do(message)
	if err != nil {
		return err.Error()
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil {
		return err.Error()
	}
	if answer.StatusCode/100 != 2 || (expect != "" && !bytes.Contains(body, []byte(expect))) {
		return fmt.Sprintf("%d %.400s", answer.StatusCode, body)
	}
	return ""
}

func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	// Nearest rank.
	at := int(float64(len(sorted))*q+0.999999) - 1
	at = max(0, min(at, len(sorted)-1))
	return float64(sorted[at].Microseconds()) / 1000
}
