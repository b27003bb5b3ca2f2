"""Why the certificate of a peer is not acceptable, in words that say what can be done about it."""

import time
from collections.abc import Sequence
from datetime import datetime

from netkit.core.errors import Exit, Failure
from netkit.core.x509 import Certificate

_DAY = 86400  # s
# Results of OpenSSL's verification: x509_vfy.h. The first are of an issuer that was not found.
_NO_ISSUER = (2, 20, 21)
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_IN_CHAIN, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 18, 19, 62, 64


def days_left(moment: datetime) -> int:
    """The whole days from now until then; negative once that is over."""
    return int((moment.timestamp() - time.time()) // _DAY)


def distance(moment: datetime) -> str:
    """How far away a moment is: ``74 days``, ``27 days ago``."""
    days = days_left(moment)
    number, ago = (-days - 1, " ago") if days < 0 else (days, "")
    return f"{number} day{'' if number == 1 else 's'}{ago}"


def refused(
    action: str, code: int, words: str, chain: Sequence[Certificate], *, peer: str, cafile: str | None
) -> Failure:
    """The failure of OpenSSL's verification, whose ``code`` and ``words`` these are, of the chain that came.

    The chain has the certificate of the ``peer`` first, which is a server or a client. ``cafile`` has the authorities
    that are trusted; without it they are the system's.
    """
    reason, detail, hint = words, "", ""
    if chain and code == _EXPIRED:
        reason, detail = _expired(chain)
    elif chain and code == _NOT_YET_VALID and chain[0].not_before:
        detail = f"it begins on {chain[0].not_before.date()}"
    elif chain and code == _SELF_SIGNED:
        hint = f"if it is the right one: --fingerprint {chain[0].fingerprint}" if peer == "server" else ""
    elif chain and code in (_OTHER_HOST, _OTHER_ADDRESS):
        names = chain[0].alternative_names
        detail = (
            f"it is for {', '.join(names)}" if names else "it has no alternative name, and a common name does not count"
        )
        hint = "--servername NAME says another name that it may have"
    elif chain and (code in _NO_ISSUER or code == _SELF_SIGNED_IN_CHAIN):
        reason, detail, hint = _unknown(_path(chain), peer, cafile)
    return Failure(Exit.CERT, action, reason, detail=detail, hint=hint)


def _expired(chain: Sequence[Certificate]) -> tuple[str, str]:
    """Reason and detail of one that has expired, which may be another than the peer's own."""
    for certificate in chain:
        if certificate.not_after is not None and days_left(certificate.not_after) < 0:
            ended = f"{certificate.not_after.date()}, {distance(certificate.not_after)}"
            if certificate is chain[0]:
                return "certificate has expired", ended
            return f"the certificate of its issuer {certificate.label} has expired", ended
    return "the certificate of its authority has expired", ""


def _unknown(path: Sequence[Certificate], peer: str, cafile: str | None) -> tuple[str, str, str]:
    """Reason, detail and hint of a chain that leads to nobody who is trusted.

    Roots are not sent, and intermediate certificates have to be. Whether an issuer that is missed is the one or the
    other can be known of the certificate that it issued: that names the issuer's issuer, or says where to get the
    issuer's certificate, which is not how one gets a root. A chain of several lacks its root, most likely.
    """
    last = path[-1]
    issuer = last.issued_by
    alone = len(path) == 1 and not last.self_issued
    is_root = last.self_issued or last.grandparent == last.issuer
    if not is_root and (last.grandparent or (alone and last.published)):
        hint = f"the {peer} should send all certificates but the root"
        return f"the {peer} does not send its intermediate certificate {issuer}", "", hint
    if alone and not is_root and cafile is not None:
        reason = (
            f"the {peer} does not send its intermediate certificate {issuer}, or that is a root which {cafile} lacks"
        )
        return reason, "", f"the {peer} should send all certificates but the root, and --cafile FILE has that"
    detail = "--cafile FILE" if cafile is None else f"it is not in {cafile}"
    return f"issuer {issuer} is not trusted", detail, "--cafile FILE trusts the authorities in FILE"


def _path(chain: Sequence[Certificate]) -> list[Certificate]:
    """The part of a chain, sent in whatever order, in which each is issued by the next, from the peer's own on."""
    path = [chain[0]]
    while not path[-1].self_issued:
        issuer = next((each for each in chain if each.subject == path[-1].issuer and each not in path), None)
        if issuer is None:
            break
        path.append(issuer)
    return path
