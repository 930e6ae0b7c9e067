package main

// A socket that a NAT could stand before: its local port changes under a running connection.

import (
	"errors"
	"net"
	"sync"
	"time"
)

type movable struct {
	mutex sync.Mutex
	conn  *net.UDPConn
}

func (m *movable) current() *net.UDPConn {
	m.mutex.Lock()
	defer m.mutex.Unlock()
	return m.conn
}

// move binds another port and closes the old one, which wakes whoever reads from it.
func (m *movable) move() (int, error) {
	old := m.current()
	address := *old.LocalAddr().(*net.UDPAddr)
	address.Port = 0
	fresh, err := net.ListenUDP("udp", &address)
	if err != nil {
		return 0, err
	}
	m.mutex.Lock()
	m.conn = fresh
	m.mutex.Unlock()
	return fresh.LocalAddr().(*net.UDPAddr).Port, old.Close()
}

func (m *movable) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		conn := m.current()
		n, from, err := conn.ReadFrom(p)
		if errors.Is(err, net.ErrClosed) && conn != m.current() {
			continue
		}
		return n, from, err
	}
}

func (m *movable) WriteTo(p []byte, to net.Addr) (int, error) { return m.current().WriteTo(p, to) }
func (m *movable) Close() error                               { return m.current().Close() }
func (m *movable) LocalAddr() net.Addr                        { return m.current().LocalAddr() }
func (m *movable) SetDeadline(t time.Time) error              { return m.current().SetDeadline(t) }
func (m *movable) SetReadDeadline(t time.Time) error          { return m.current().SetReadDeadline(t) }
func (m *movable) SetWriteDeadline(t time.Time) error         { return m.current().SetWriteDeadline(t) }
