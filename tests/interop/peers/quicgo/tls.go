package main

// TLS as validators do it: self-signed certificates on both sides, no issuer checked; crypto/tls always checks that the peer
// holds its key.

import (
	"crypto/tls"
	"encoding/json"
	"os"
	"sync"
)

var ciphers = map[uint16]string{
	tls.TLS_AES_128_GCM_SHA256:       "aes128",
	tls.TLS_AES_256_GCM_SHA384:       "aes256",
	tls.TLS_CHACHA20_POLY1305_SHA256: "chacha20",
}

func tlsConfig(o *options, sessions *sessions) *tls.Config {
	pair, err := tls.LoadX509KeyPair(o.cert, o.key)
	if err != nil {
		fail(exUsage, "%v", err)
	}
	config := &tls.Config{
		Certificates:       []tls.Certificate{pair},
		NextProtos:         []string{o.alpn},
		MinVersion:         tls.VersionTLS13,
		ClientAuth:         tls.RequestClientCert,
		InsecureSkipVerify: true, // of the issuer
		ServerName:         "localhost",
		CurvePreferences:   []tls.CurveID{tls.X25519, tls.CurveP256, tls.CurveP384},
	}
	if o.hybrid {
		config.CurvePreferences = []tls.CurveID{tls.X25519MLKEM768, tls.X25519}
	}
	if sessions != nil {
		config.ClientSessionCache = sessions
	}
	if o.keylog != "" {
		if config.KeyLogWriter, err = os.OpenFile(o.keylog, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600); err != nil {
			fail(exUsage, "--keylog: %v", err)
		}
	}
	return config
}

// sessions keeps the newest session, tells that it came, and keeps it in a file where that is wanted.
type sessions struct {
	mutex   sync.Mutex
	newest  *tls.ClientSessionState
	arrived chan struct{} // one element: a session came
	file    string
}

type storedSession struct{ Ticket, State []byte }

func newSessions(file string) *sessions {
	s := &sessions{arrived: make(chan struct{}, 1), file: file}
	text, err := os.ReadFile(file)
	if err != nil {
		return s // the first time there is none
	}
	var stored storedSession
	if err = json.Unmarshal(text, &stored); err == nil {
		var state *tls.SessionState
		if state, err = tls.ParseSessionState(stored.State); err == nil {
			s.newest, err = tls.NewResumptionState(stored.Ticket, state)
		}
	}
	if err != nil {
		fail(exUsage, "--resume %s: %v", file, err)
	}
	return s
}

func (s *sessions) Get(string) (*tls.ClientSessionState, bool) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.newest, s.newest != nil
}

func (s *sessions) Put(_ string, fresh *tls.ClientSessionState) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.newest = fresh
	if fresh == nil {
		return // crypto/tls throws away what it cannot use
	}
	select {
	case s.arrived <- struct{}{}:
	default:
	}
	if s.file == "" {
		return
	}
	ticket, state, err := fresh.ResumptionState()
	if err == nil {
		var raw []byte
		if raw, err = state.Bytes(); err == nil {
			var text []byte
			if text, err = json.Marshal(storedSession{ticket, raw}); err == nil {
				err = os.WriteFile(s.file, text, 0o600)
			}
		}
	}
	if err != nil {
		fail(exUsage, "--resume %s: %v", s.file, err)
	}
}
