package probe

import (
	"fmt"
	"math"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
)

const (
	defaultItemMax = 1 << 20 // item_size_max, unless -I says otherwise
	datagramFill   = 1392    // payload of one of memcached's datagrams of 1,400 bytes (memcached.h, UDP_DATA_SIZE)
	measureBytes   = 8 << 10 // of the reply to the measurement that are counted
)

// wireFactor is the ratio of bytes on the wire, with the headers of IP and UDP, for a request in one datagram.
func wireFactor(received, datagrams, sent int, a netip.Addr) float64 {
	headers := 28
	if a.Is6() {
		headers = 48
	}
	return tenth(float64(received+headers*datagrams) / float64(sent+headers))
}

// ceiling returns the factor of a 15-byte get of one value that is as large as the server takes, and on what the number
// rests. limit is limit_maxbytes, or 0 if it is not known.
func ceiling(limit uint64) (float64, string) {
	n := uint64(defaultItemMax - 512)
	basis := "computed from the default item_size_max of 1 MiB, not tried"
	if limit > 0 && limit < n {
		n = limit
		basis = "computed from limit_maxbytes, not tried"
	}
	length := uint64(len("VALUE a 0 ")+len(strconv.FormatUint(n, 10))+len("\r\n")) + n + uint64(len("\r\n")+len("END\r\n"))
	datagrams := (length + datagramFill - 1) / datagramFill
	return tenth(float64(length+frameLen*datagrams) / 15), basis
}

func tenth(f float64) float64 { return math.Round(f*10) / 10 }

// statistics reads what the reply to stats says, however its datagrams cut the lines.
func statistics(text string) (version string, held *Held) {
	var h Held
	seen := false
	for line := range strings.SplitSeq(text, "\r\n") {
		name, value, ok := strings.Cut(strings.TrimPrefix(line, "STAT "), " ")
		if !ok || !strings.HasPrefix(line, "STAT ") {
			continue
		}
		number, err := strconv.ParseUint(value, 10, 64)
		switch name {
		case "version":
			if v, ok := parseVersion([]byte("VERSION " + value + "\r\n")); ok {
				version = v
			}
		case "curr_items":
			h.Items, seen = number, seen || err == nil
		case "bytes":
			h.Bytes, seen = number, seen || err == nil
		case "limit_maxbytes":
			h.Limit, seen = number, seen || err == nil
		}
	}
	if seen {
		held = &h
	}
	return version, held
}

// Figure is a factor of amplification that somebody has published.
type Figure struct {
	Factor string
	Source string
}

// Published returns larger factors that are known in public. The probe tries none of them: they need a value that
// somebody has stored, or many keys in one request.
func Published() []Figure {
	return []Figure{
		{"10,000 to 51,000", "US-CERT TA14-017A, https://www.cisa.gov/news-events/alerts/2014/01/17/udp-based-amplification-attacks"},
		{"51,200", "Cloudflare, https://blog.cloudflare.com/memcrashed-major-amplification-attacks-from-port-11211/"},
		{"1:50,000", "CVE-2018-1000115, https://nvd.nist.gov/vuln/detail/CVE-2018-1000115"},
	}
}

// PublishedText says in one sentence what Published holds, and that none of it was tried.
func PublishedText() string {
	var parts []string
	for _, f := range Published() {
		parts = append(parts, f.Factor+" ("+f.Source+")")
	}
	return "Larger factors are known in public and were not tried: " + strings.Join(parts, "; ") + "."
}

// UDPByDefault says whether memcached of this version opens UDP unless told otherwise: so do versions before 1.5.6
// (https://github.com/memcached/memcached/wiki/ReleaseNotes156). Distributions carry the change back to older versions:
// it names a version to look at, and decides nothing.
func UDPByDefault(version string) bool {
	m := regexp.MustCompile(`^(\d+)\.(\d+)\.(\d+)`).FindStringSubmatch(version)
	if m == nil {
		return false
	}
	for i, limit := range []int{1, 5, 6} {
		n, err := strconv.Atoi(m[i+1])
		if err != nil || n > limit {
			return false
		}
		if n < limit {
			return true
		}
	}
	return false
}

// VersionText says in one sentence what the version of a says about its defaults, or nothing.
func (a *Answer) VersionText() string {
	if a.Product != "memcached" || !UDPByDefault(a.Version) {
		return ""
	}
	return fmt.Sprintf("memcached %s opens UDP by default (off since 1.5.6, unless the distribution carried that back): start it with -p PORT -U 0.", a.Version)
}
