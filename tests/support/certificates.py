"""Certificates for tests, made as Docker's documentation says."""

import subprocess
from pathlib import Path


def openssl(folder: Path, *arguments: str) -> None:
    subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)


def authority(folder: Path) -> Path:
    """`ca.pem` and its key in a new folder."""
    folder.mkdir()
    subject = ["-subj", "/CN=stint-test authority"]
    openssl(folder, "req", "-new", "-x509", "-nodes", "-days", "2", *subject, "-keyout", "ca-key.pem", "-out", "ca.pem")
    return folder


def certificates(folder: Path) -> Path:
    """Of an authority in a new folder: `server-cert.pem` for 127.0.0.1 and `cert.pem` for a client, with their keys."""
    authority(folder)
    certificate(folder, "server-", "subjectAltName = IP:127.0.0.1\nextendedKeyUsage = serverAuth\n")
    certificate(folder, "", "extendedKeyUsage = clientAuth\n")
    return folder


def certificate(folder: Path, name: str, extensions: str) -> None:
    """`<name>cert.pem` and `<name>key.pem`, signed by the folder's authority."""
    (folder / "extensions").write_text(extensions, encoding="utf-8")
    request = ["req", "-new", "-nodes", "-subj", "/CN=stint-test", "-keyout", f"{name}key.pem", "-out", "request"]
    openssl(folder, *request)
    signing = ["-CA", "ca.pem", "-CAkey", "ca-key.pem", "-CAcreateserial", "-extfile", "extensions"]
    openssl(folder, "x509", "-req", "-days", "2", "-in", "request", *signing, "-out", f"{name}cert.pem")
