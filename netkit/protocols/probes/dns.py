"""The probe of DNS servers, over UDP."""

import dns.entropy
import dns.exception
import dns.message
import dns.rcode

from netkit.protocols.dialogue import Malformed, Names, NotReady, Steps


def root_servers(names: Names) -> Steps[str]:
    """Query the name servers of the root, which every resolver knows (RFC 1034, section 5.3.1).

    The server is ready after any answer but SERVFAIL, even REFUSED, as it may not serve the root. Datagrams without the
    random id of the query are ignored (RFC 5452, section 9.1).
    """
    query = dns.message.make_query(".", "NS", use_edns=False)
    query.id = dns.entropy.random_16()
    yield query.to_wire()
    own = query.id.to_bytes(2, "big")
    while not (data := (yield len)).startswith(own):
        pass
    try:
        answer = dns.message.from_wire(data, question_only=True)
    except (dns.exception.DNSException, ValueError):  # ValueError: an opcode unknown to older versions
        raise Malformed(data) from None
    if not query.is_response(answer):
        raise Malformed(data)
    said = dns.rcode.to_text(answer.rcode())
    if answer.rcode() == dns.rcode.SERVFAIL:
        raise NotReady(said)
    return "" if answer.rcode() == dns.rcode.NOERROR else said
