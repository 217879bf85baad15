//go:build tools

// Package tools names the programs that the lab builds, so that go.mod and go.sum pin all they need.
package tools

import _ "github.com/traefik/traefik/v3/cmd/traefik"
