package probe

// The most that one address and port is sent, whatever the other side does and however many exposures name it. TLS
// handshakes come on top of the bytes, not of the connects.
const (
	MaxConnects  = 5   // four conversations and one repeated connect
	MaxTCPBytes  = 96  // payload: four requests of 24 bytes
	MaxDatagrams = 4   // two NOOPs, and two requests for the version or one for the statistics
	MaxUDPBytes  = 114 // payload: 2 × 32 + 2 × 25
)

// budget is what one address and port has been sent over one protocol. Every packet is taken from it before it is sent:
// the limits hold even if a state machine is wrong.
type budget struct {
	packets, maxPackets int // connects or datagrams
	bytes, maxBytes     int
}

func tcpBudget() budget { return budget{maxPackets: MaxConnects, maxBytes: MaxTCPBytes} }
func udpBudget() budget { return budget{maxPackets: MaxDatagrams, maxBytes: MaxUDPBytes} }

// again says whether as much as was spent may be spent once more.
func (b *budget) again() bool { return 2*b.packets <= b.maxPackets && 2*b.bytes <= b.maxBytes }

// packet takes one connect from the budget.
func (b *budget) packet() bool {
	if b.packets >= b.maxPackets {
		return false
	}
	b.packets++
	return true
}

// payload takes n bytes from the budget.
func (b *budget) payload(n int) bool {
	if b.bytes+n > b.maxBytes {
		return false
	}
	b.bytes += n
	return true
}

// datagram takes one datagram of n bytes from the budget.
func (b *budget) datagram(n int) bool {
	return b.bytes+n <= b.maxBytes && b.packet() && b.payload(n)
}
