"""The message for a certificate that is not acceptable: the reason, details, and what can be done about it."""

import time
from collections.abc import Sequence
from datetime import datetime

from netkit.core.errors import Exit, Failure
from netkit.core.x509 import Certificate

_DAY = 86400  # s
# Error codes of OpenSSL's verification: x509_vfy.h. Those of _NO_ISSUER are for an issuer that was not found.
_NO_ISSUER = (2, 20, 21)
_NOT_YET_VALID, _EXPIRED, _SELF_SIGNED, _SELF_SIGNED_IN_CHAIN, _OTHER_HOST, _OTHER_ADDRESS = 9, 10, 18, 19, 62, 64


def days_left(moment: datetime) -> int:
    """The whole days from now until ``moment``; negative if it is past."""
    return int((moment.timestamp() - time.time()) // _DAY)


def distance(moment: datetime) -> str:
    """The days until or since a moment, as text: ``74 days``, ``27 days ago``."""
    days = days_left(moment)
    number, ago = (-days - 1, " ago") if days < 0 else (days, "")
    return f"{number} day{'' if number == 1 else 's'}{ago}"


def refused(
    action: str, code: int, words: str, chain: Sequence[Certificate], *, peer: str, cafile: str | None
) -> Failure:
    """Make the Failure for a chain that OpenSSL has refused with this ``code`` and message, ``words``.

    ``chain`` has the peer's certificate first. ``peer`` is "server" or "client". ``cafile`` is the file with the
    trusted authorities, None for those of the system.
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
    """Reason and detail for an expired certificate, which need not be the peer's own."""
    for certificate in chain:
        if certificate.not_after is not None and days_left(certificate.not_after) < 0:
            ended = f"{certificate.not_after.date()}, {distance(certificate.not_after)}"
            if certificate is chain[0]:
                return "certificate has expired", ended
            return f"the certificate of its issuer {certificate.label} has expired", ended
    return "the certificate of its authority has expired", ""


def _unknown(path: Sequence[Certificate], peer: str, cafile: str | None) -> tuple[str, str, str]:
    """Reason, detail and hint for a chain that does not lead to a trusted authority.

    A server must send intermediate certificates, but need not send the root. The last certificate tells which of the
    two its missing issuer is: an intermediate one if it names the issuer's issuer, or, in a chain of one, a URL of the
    issuer's certificate, as one does not get roots that way. Of a longer chain most likely the root is missing.
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
    """The certificates of a chain, sent in any order, from the peer's own on, each issued by the next."""
    path = [chain[0]]
    while not path[-1].self_issued:
        issuer = next((each for each in chain if each.subject == path[-1].issuer and each not in path), None)
        if issuer is None:
            break
        path.append(issuer)
    return path
