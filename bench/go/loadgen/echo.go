package main

import (
	"fmt"
	"net"
	"syscall"
	"time"
)

// echo sends 64 bytes and takes them back: the least that any answer from another process costs.
type echo struct {
	conn    *net.UnixConn
	raw     syscall.RawConn
	spin    time.Duration
	message [64]byte
	got     int
	err     error
}

func openEcho(o options) (*echo, error) {
	spin, _, err := parseSpin(o.spin)
	if err != nil {
		return nil, err
	}
	conn, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: o.socket, Net: "unix"})
	if err != nil {
		return nil, err
	}
	raw, err := conn.SyscallConn()
	return &echo{conn: conn, raw: raw, spin: spin}, err
}

func (e *echo) step() (time.Duration, bool, error) {
	if _, err := e.conn.Write(e.message[:]); err != nil {
		return 0, false, err
	}
	if e.spin == 0 {
		e.got, e.err = e.conn.Read(e.message[:])
	} else if err := e.raw.Read(e.receive); err != nil {
		return 0, false, err
	}
	if e.err != nil || e.got != len(e.message) {
		return 0, false, fmt.Errorf("%d bytes came back: %w", e.got, e.err)
	}
	return 0, true, nil
}

// receive spins on the socket, and has the runtime wait for it when that took too long.
func (e *echo) receive(fd uintptr) bool {
	for end := time.Now().Add(e.spin); ; {
		e.got, e.err = syscall.Read(int(fd), e.message[:])
		if e.err != syscall.EAGAIN {
			return true
		}
		if time.Now().After(end) {
			return false
		}
	}
}
