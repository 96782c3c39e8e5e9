// Echo of datagrams in Go, on one processor.
package main

import (
	"fmt"
	"net"
	"runtime"
)

func main() {
	runtime.GOMAXPROCS(1)
	socket, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		panic(err)
	}
	fmt.Println(socket.LocalAddr())
	buffer := make([]byte, 64*1024)
	for {
		count, from, err := socket.ReadFromUDPAddrPort(buffer)
		if err != nil {
			panic(err)
		}
		if _, err := socket.WriteToUDPAddrPort(buffer[:count], from); err != nil {
			panic(err)
		}
	}
}
