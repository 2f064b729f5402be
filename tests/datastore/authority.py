"""Certificates made on the spot, by `openssl`."""

import subprocess
from pathlib import Path


def openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *words], check=True, capture_output=True)


class Authority:
    """A certificate authority in a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        directory.mkdir()
        self.ca = directory / "ca.pem"
        key = directory / "ca.key"
        openssl(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", self.ca, "-days", "2", "-subj", "/CN=test authority"),
        )

    def issue(self, name: str, address: str, days: int = 2) -> tuple[Path, Path]:
        """A certificate and its key, anew with each call; with negative `days` one that has expired."""
        certificate, key = self.directory / f"{name}.pem", self.directory / f"{name}.key"
        request, extension = self.directory / f"{name}.csr", self.directory / f"{name}.ext"
        extension.write_text(f"subjectAltName=IP:{address}\nextendedKeyUsage=serverAuth,clientAuth\n")
        openssl(
            *("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-keyout", key, "-out", request, "-subj", f"/CN={name}"),
        )
        openssl(
            *("x509", "-req", "-in", request, "-CA", self.ca, "-CAkey", self.directory / "ca.key"),
            *("-CAcreateserial", "-out", certificate, "-days", str(days), "-extfile", extension),
        )
        return certificate, key
