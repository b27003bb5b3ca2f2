"""What users of other tools type, and what to type here."""

HABITS = {
    "-l": "netkit listen ADDRESS listens",
    "-u": "datagrams are netkit udp-send and netkit udp-serve, and a conversation netkit connect udp:ADDRESS",
    "-z": "netkit portcheck HOST PORTS looks which ports are open",
    "-e": "--exec CMD of netkit connect and netkit listen runs a program over a connection",
    "-c": "--sh-exec CMD of netkit connect and netkit listen has the shell run it",
    "-U": "write unix:PATH as the address",
}

SERVER_HABITS = {
    **HABITS,
    "-l": "this listens already",
    "-k": "any number of clients are served",
    "-p": "the port is part of the address",
    "-s": "the host is part of the address",
    "-w": "--accept-timeout D bounds the wait for a client",
}

PROXY_HABITS = {
    "-X --proxy-type": "the proxy's URL says what it speaks: --proxy socks5h://HOST:PORT or http://HOST:PORT",
    "--proxy-auth --proxy-user": "--proxy URL has USER:PASSWORD@ in front of its host; --proxy-user-file FILE keeps it",
    "--proxy-dns": "--proxy socks5h:// has the proxy look names up, socks5:// does so here",
    "--socks4": "--proxy socks4://HOST:PORT",
    "--socks4a": "--proxy socks4a://HOST:PORT",
    "--socks5": "--proxy socks5://HOST:PORT",
    "--socks5-hostname": "--proxy socks5h://HOST:PORT",
    "--preproxy": "--proxy once for each proxy, the nearest first",
}
