package findings

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/cloudaudit/cloudaudit/cloud"
)

// Shard is a share of all scopes: the parts, counted from 1, of as many as there are. Which part a scope is in depends on
// nothing but its own name, so that machines which know nothing of each other read each scope once. The nil Shard is all.
type Shard struct {
	Of    int   `json:"of"`
	Parts []int `json:"parts"` // ascending; more than one in a merged report
}

// ParseShard reads a shard such as "2/4", the second of four.
func ParseShard(text string) (*Shard, error) {
	i, n, ok := strings.Cut(text, "/")
	part, err1 := strconv.Atoi(i)
	of, err2 := strconv.Atoi(n)
	if !ok || err1 != nil || err2 != nil || part < 1 || of < part || of > maxParts {
		return nil, fmt.Errorf("shard %q: want I/N with I from 1 to N, such as 2/4", text)
	}
	return &Shard{Of: of, Parts: []int{part}}, nil
}

// String returns the shard as ParseShard reads it, if it has one part.
func (s *Shard) String() string {
	var parts []string
	for _, p := range s.Parts {
		parts = append(parts, strconv.Itoa(p))
	}
	return strings.Join(parts, "+") + "/" + strconv.Itoa(s.Of)
}

// Has says whether scope is in s.
func (s *Shard) Has(scope cloud.Scope) bool {
	if s == nil {
		return true
	}
	sum := sha256.Sum256([]byte(scope.String()))
	part := binary.BigEndian.Uint64(sum[:8])%uint64(s.Of) + 1
	return slices.Contains(s.Parts, int(part))
}

// Missing returns the parts that are not in s.
func (s *Shard) Missing() []int {
	var out []int
	if s == nil {
		return nil
	}
	for p := 1; p <= s.Of; p++ {
		if !slices.Contains(s.Parts, p) {
			out = append(out, p)
		}
	}
	return out
}

// maxParts is more than anybody has machines for.
const maxParts = 1 << 16

// Valid says whether s is a shard: a report that was written by something else may say anything.
func (s *Shard) Valid() bool {
	if s == nil {
		return true
	}
	last := 0
	for _, p := range s.Parts {
		if p <= last {
			return false
		}
		last = p
	}
	return last > 0 && last <= s.Of && s.Of <= maxParts
}
