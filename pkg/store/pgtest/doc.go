//go:build !unix

// Package pgtest runs a real PostgreSQL server for tests, on unix systems.
package pgtest
