package main

// The command line of every peer (../README.md), as far as quic-go can do it. crypto/tls lets nobody choose among the suites of
// TLS 1.3, so there is no --cipher.

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"time"
)

const (
	exIncomplete  = 1
	exUsage       = 64
	exUnreachable = 69
	never         = -1
)

var (
	both   = []string{"alpn", "max-uni", "max-bidi", "idle", "keylog", "qlog", "key-update-after", "quiet"}
	server = []string{"retry", "zero-rtt", "echo", "push", "push-size", "close-after", "close-code"}
	client = []string{"streams", "size", "bidi", "expect", "datagrams", "count", "zero-rtt", "resume", "rebind-after",
		"version-negotiation", "bind", "hybrid", "interval", "hold", "wait", "timeout"}
)

type options struct {
	server                           bool
	address, bind                    string
	cert, key, alpn                  string
	keylog, qlog, resume             string
	maxUni, maxBidi                  int64
	keyUpdateAfter                   int64 // streams; never
	quiet, retry, zeroRTT, echo      bool
	bidi, versionNegotiation         bool
	hybrid, wait                     bool
	push, streams, expect, datagrams int
	pushSize, size, count            int
	closeAfter, rebindAfter          int // streams; never
	closeCode                        uint64
	idle, interval, hold, timeout    time.Duration
}

func fail(code int, format string, args ...any) {
	fmt.Fprintf(os.Stderr, "quicgo-peer: "+format+"\n", args...)
	os.Exit(code)
}

func version() string {
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, dep := range info.Deps {
			if dep.Path == "github.com/quic-go/quic-go" {
				return dep.Version
			}
		}
	}
	return "unknown"
}

func features() {
	line, _ := json.Marshal(map[string]any{
		"engine": "quic-go", "version": version(), "certificate": "ed25519", "acked": true,
		"ciphers": []string{"aes128", "aes256", "chacha20"},
		"server":  append(append([]string{}, both...), server...),
		"client":  append(append([]string{}, both...), client...),
	})
	fmt.Println(string(line))
	os.Exit(0)
}

// milliseconds is a flag whose value is a time.Duration.
func milliseconds(set *flag.FlagSet, target *time.Duration, name string, value int) {
	*target = time.Duration(value) * time.Millisecond
	set.Func(name, "milliseconds", func(text string) error {
		var ms int
		_, err := fmt.Sscanf(text, "%d", &ms)
		*target = time.Duration(ms) * time.Millisecond
		return err
	})
}

func parse(words []string) *options {
	o := &options{}
	if len(words) > 0 && words[0] == "features" {
		features()
	}
	if len(words) == 0 || words[0] != "server" && words[0] != "client" {
		fail(exUsage, "say features, server or client")
	}
	o.server = words[0] == "server"
	set := flag.NewFlagSet(words[0], flag.ContinueOnError)
	set.SetOutput(io.Discard)
	set.StringVar(&o.cert, "cert", "", "")
	set.StringVar(&o.key, "key", "", "")
	set.StringVar(&o.alpn, "alpn", "solana-tpu", "")
	set.StringVar(&o.keylog, "keylog", "", "")
	set.StringVar(&o.qlog, "qlog", "", "")
	set.Int64Var(&o.maxUni, "max-uni", 128, "")
	set.Int64Var(&o.maxBidi, "max-bidi", 128, "")
	set.Int64Var(&o.keyUpdateAfter, "key-update-after", never, "")
	set.BoolVar(&o.quiet, "quiet", false, "")
	set.BoolVar(&o.zeroRTT, "zero-rtt", false, "")
	milliseconds(set, &o.idle, "idle", 30000)
	milliseconds(set, &o.timeout, "handshake", 20000) // a client's is called --timeout
	if o.server {
		set.StringVar(&o.address, "listen", "", "")
		set.BoolVar(&o.retry, "retry", false, "")
		set.BoolVar(&o.echo, "echo", false, "")
		set.IntVar(&o.push, "push", 0, "")
		set.IntVar(&o.pushSize, "push-size", 17, "")
		set.IntVar(&o.closeAfter, "close-after", never, "")
		set.Uint64Var(&o.closeCode, "close-code", 5, "")
	} else {
		set.StringVar(&o.address, "connect", "", "")
		set.StringVar(&o.bind, "bind", "", "")
		set.StringVar(&o.resume, "resume", "", "")
		set.BoolVar(&o.bidi, "bidi", false, "")
		set.BoolVar(&o.wait, "wait", false, "")
		set.BoolVar(&o.hybrid, "hybrid", false, "")
		set.BoolVar(&o.versionNegotiation, "version-negotiation", false, "")
		set.IntVar(&o.streams, "streams", 1, "")
		set.IntVar(&o.size, "size", 235, "")
		set.IntVar(&o.expect, "expect", 0, "")
		set.IntVar(&o.datagrams, "datagrams", 0, "")
		set.IntVar(&o.count, "count", 1, "")
		set.IntVar(&o.rebindAfter, "rebind-after", never, "")
		o.closeAfter = never
		milliseconds(set, &o.interval, "interval", 0)
		milliseconds(set, &o.hold, "hold", 0)
		milliseconds(set, &o.timeout, "timeout", 20000)
	}
	if err := set.Parse(words[1:]); err != nil {
		fail(exUsage, "%v; see `quicgo-peer features`", err)
	}
	if o.address == "" || o.cert == "" || o.key == "" || set.NArg() > 0 {
		fail(exUsage, "%v", errors.New("--listen or --connect, --cert and --key are needed, and nothing without a name"))
	}
	return o
}
