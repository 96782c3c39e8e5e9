"""Echo of datagrams on Twisted, as its documentation has it."""

from twisted.internet import protocol, reactor


class Echo(protocol.DatagramProtocol):
    def datagramReceived(self, datagram, address):
        self.transport.write(datagram, address)


port = reactor.listenUDP(0, Echo(), interface="127.0.0.1", maxPacketSize=65536)
print("127.0.0.1:%d" % port.getHost().port, flush=True)
reactor.run()
