// Echo over TLS in Go, a goroutine for each connection on one processor: tls-go CHAIN KEY. (Go's
// sockets have TCP_NODELAY on.)
package main

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"runtime"
)

func main() {
	runtime.GOMAXPROCS(1)
	identity, err := tls.LoadX509KeyPair(os.Args[1], os.Args[2])
	if err != nil {
		panic(err)
	}
	config := &tls.Config{Certificates: []tls.Certificate{identity}}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", config)
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	for {
		socket, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go echo(socket, make([]byte, 64*1024))
	}
}

func echo(socket net.Conn, buffer []byte) {
	defer socket.Close()
	for {
		count, err := socket.Read(buffer)
		if err != nil {
			return
		}
		if _, err := socket.Write(buffer[:count]); err != nil {
			return
		}
	}
}
