"""Echo over TLS on Twisted, as its documentation has it: `echo_twisted.py CHAIN KEY`."""

import sys

from twisted.internet import protocol, reactor, ssl


class Echo(protocol.Protocol):
    def connectionMade(self):
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data):
        self.transport.write(data)


identity = ssl.DefaultOpenSSLContextFactory(sys.argv[2], sys.argv[1])
factory = protocol.Factory.forProtocol(Echo)
port = reactor.listenSSL(0, factory, identity, backlog=4096, interface="127.0.0.1")
print("127.0.0.1:%d" % port.getHost().port, flush=True)
reactor.run()
