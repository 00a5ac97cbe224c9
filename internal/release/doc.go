// Package release holds the tests of what is shipped: archives and packages, man pages, completions, systemd units. It has
// no code: what a test builds, it builds from .goreleaser.yaml and the files of this checkout, nothing is said twice.
package release
