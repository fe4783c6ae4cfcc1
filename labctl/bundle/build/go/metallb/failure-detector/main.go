// Command failure-detector lets MetalLB's speakers know of a dead node sooner than they find out by themselves.
//
// Speakers watch each other over memberlist, at the pace of its LAN settings: a node that dies is dead to them after
// five to six seconds. This is one more member beside a speaker. It asks the others more often, and memberlist passes
// on what it finds: speakers take a member's word for it, unless the one said to be dead denies it.
package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	speakerPort = 7946
	ownPort     = 7947
	secretFile  = "/etc/ml_secret_key/secretkey"

	// Members are asked in turn, and those of a dead node each take a whole interval.
	probeInterval = 100 * time.Millisecond
	// A node is dead when it was silent for so many probe intervals after the first probe that it missed.
	suspicion = 8
	// News is sent so many times for each digit of the number of members. By default it may be sent to one member
	// four times, and never to another.
	retransmissions = 12
)

func main() {
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

// run keeps the node's speaker and this member in one list until the process is told to end.
func run() error {
	stopped, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	node, address := os.Getenv("NODE_NAME"), net.ParseIP(os.Getenv("NODE_ADDRESS"))
	if node == "" || address == nil {
		return fmt.Errorf("NODE_NAME is %q, NODE_ADDRESS is %q: both must be set", node, os.Getenv("NODE_ADDRESS"))
	}
	secret, err := os.ReadFile(secretFile)
	if err != nil {
		return err
	}
	list, err := memberlist.Create(settings(node, address, secret))
	if err != nil {
		return err
	}
	speaker := net.JoinHostPort(address.String(), strconv.Itoa(speakerPort))
	for {
		// Each time, the two tell each other all they know. A death that one of them knows more recent news of is
		// none to it: what this member finds must not be about an older incarnation than the speaker's.
		if _, err := list.Join([]string{speaker}); err != nil {
			log.Printf("the speaker at %s cannot be joined yet: %v", speaker, err)
		}
		select {
		case <-stopped.Done():
			return list.Leave(time.Second)
		case <-time.After(time.Second):
		}
	}
}

func settings(node string, address net.IP, secret []byte) *memberlist.Config {
	config := memberlist.DefaultLANConfig()
	// Speakers take a member for a node if it is named like one.
	config.Name = "failure-detector/" + node
	config.BindAddr, config.BindPort, config.AdvertisePort = address.String(), ownPort, ownPort
	config.TCPTimeout = time.Second
	// What it writes for each exchange with the speaker would hide the rest.
	config.Logger = log.New(withoutDebugging{os.Stderr}, "", log.LstdFlags)
	config.ProbeInterval, config.ProbeTimeout = probeInterval, probeInterval/2
	config.GossipInterval, config.RetransmitMult = probeInterval/2, retransmissions
	// By default a member that misses an answer waits up to eight times as long for the next one: with two members on
	// a dead node, it would find the second one dead too late.
	config.AwarenessMaxMultiplier = 1
	// One member's word has to do: where two nodes are, the second has nobody to confirm it.
	config.SuspicionMult, config.SuspicionMaxTimeoutMult = suspicion, 1
	// MetalLB's key: the secret's first bytes, and where it is short, the checksum of nothing after it.
	nothing := sha256.Sum256(nil)
	config.SecretKey = append(secret, nothing[:]...)[:32]
	return config
}

// withoutDebugging leaves out the lines that memberlist marks as such.
type withoutDebugging struct{ io.Writer }

func (w withoutDebugging) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte("[DEBUG]")) {
		return len(line), nil
	}
	return w.Writer.Write(line)
}
