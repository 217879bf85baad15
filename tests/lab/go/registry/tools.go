//go:build tools

// Package tools names the programs that the lab builds, so that go.mod and go.sum pin all they need.
package tools

import (
	_ "github.com/distribution/distribution/v3/cmd/registry"
	_ "github.com/olareg/olareg/cmd/olareg"
	_ "github.com/sigstore/cosign/v3/cmd/cosign"
)
