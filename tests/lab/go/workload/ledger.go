package main

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"
)

// Where the ledger's pod has what it asks the verifier with.
const (
	ownToken     = "/var/run/secrets/verifier/token"
	authority    = "/etc/countersign/ca.crt"
	mostOfAnswer = 1 << 20
)

// ledger is a relying party as the README describes one: it shows a token of its own, and asks about the caller's
// (RFC 7662). It answers 200 with the verifier's answer to an active token, 403 to any other, 503 where it cannot tell.
func ledger() error {
	pem, err := os.ReadFile(authority)
	if err != nil {
		return err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return errors.New("no certificate in " + authority)
	}
	client := &http.Client{
		Timeout:   5 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS13}},
	}
	http.HandleFunc("/", func(response http.ResponseWriter, request *http.Request) {
		token, _ := strings.CutPrefix(request.Header.Get("Authorization"), "Bearer ")
		// The peer of the connection, and nothing that the caller says of itself.
		address, _, _ := net.SplitHostPort(request.RemoteAddr)
		status, answer, err := introspect(client, token, address)
		if err != nil {
			http.Error(response, err.Error(), http.StatusServiceUnavailable)
			return
		}
		var told struct {
			Active bool `json:"active"`
		}
		switch {
		case status != http.StatusOK:
			status = http.StatusServiceUnavailable
		case json.Unmarshal(answer, &told) != nil || !told.Active:
			status = http.StatusForbidden
		}
		response.WriteHeader(status)
		_, _ = response.Write(answer)
	})
	http.HandleFunc("/healthz", func(http.ResponseWriter, *http.Request) {})
	server := &http.Server{Addr: ":8080", ReadHeaderTimeout: 5 * time.Second}
	return server.ListenAndServe()
}

func introspect(client *http.Client, token, address string) (int, []byte, error) {
	own, err := os.ReadFile(ownToken)
	if err != nil {
		return 0, nil, err
	}
	form := url.Values{"token": {token}, "source_address": {address}}.Encode()
	question, err := http.NewRequest(http.MethodPost, os.Getenv("VERIFIER_URL"), strings.NewReader(form))
	if err != nil {
		return 0, nil, err
	}
	question.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	question.Header.Set("Authorization", "Bearer "+string(own))
	answer, err := client.Do(question)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(io.LimitReader(answer.Body, mostOfAnswer))
	return answer.StatusCode, body, err
}
