"""The certificate that a server shows, renewed when its files are: no restart, and no session lost for it."""

import logging
import ssl
from pathlib import Path

_log = logging.getLogger(__name__)


class CertificateError(ValueError):
    """Files that cannot be used: "certificate" or "key", what is wrong, and what would be right."""


class Certificate:
    """PEM files (`key` None: it is in the same one) and the context that handshakes are made with.

    Raises CertificateError if they cannot be used.
    """

    def __init__(self, certificate: Path, key: Path | None) -> None:
        self._certificate = certificate
        self._key = key or certificate
        self._seen = self._look()
        self.context = _new_context()
        self._load(self.context)

    def renew(self) -> None:
        """Look whether the files have changed. What cannot be used leaves what was last in force."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._load(_new_context())  # first into one that nobody uses
            self._load(self.context)
        except CertificateError as error:
            _log.warning(
                "the certificate %s is not renewed, the former one stays: %s", self._certificate, error
            )
        else:
            _log.info("the certificate %s was renewed", self._certificate)

    def _look(self) -> list[tuple[int, int]]:
        seen = []
        for what, path in (("certificate", self._certificate), ("key", self._key)):
            try:
                state = path.stat()
            except OSError as error:
                raise CertificateError(f"{what}: {path}: {error.strerror}; give a readable file") from error
            seen.append((state.st_mtime_ns, state.st_ino))
        return seen

    def _load(self, context: ssl.SSLContext) -> None:
        certificate, key = self._certificate, self._key
        for what, path in (("certificate", certificate), ("key", key)):
            try:
                path.read_bytes()
            except OSError as error:
                raise CertificateError(f"{what}: {path}: {error.strerror}; give a readable file") from error
        try:
            context.load_cert_chain(certificate, key, password=lambda: "")  # nobody is there to be asked
        except (OSError, ssl.SSLError) as error:
            if getattr(error, "reason", None) == "KEY_VALUES_MISMATCH":
                what = f"key: {key} is another than the certificate {certificate} was made for"
                raise CertificateError(f"{what}; give that one") from error
            where = "in the same file" if key == certificate else key
            what = f"certificate: {certificate} and the key {where} cannot be used"
            remedy = "both have to be PEM, the key without a passphrase"
            raise CertificateError(f"{what}; {remedy}") from error


def _new_context() -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
