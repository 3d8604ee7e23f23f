//go:build !linux

package main

// keepPrivate does nothing: only Linux has a switch for it.
func keepPrivate() error { return nil }
