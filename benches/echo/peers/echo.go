// Echo in Go, a goroutine for each connection on one processor: echo-go [BUFFER]. (Go's
// sockets have TCP_NODELAY on.)
package main

import (
	"fmt"
	"net"
	"os"
	"runtime"
	"strconv"
)

func main() {
	runtime.GOMAXPROCS(1)
	size := 64 * 1024 + 256
	if len(os.Args) > 1 {
		size, _ = strconv.Atoi(os.Args[1])
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	fmt.Println(listener.Addr())
	for {
		socket, err := listener.Accept()
		if err != nil {
			panic(err)
		}
		go echo(socket, make([]byte, size))
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
