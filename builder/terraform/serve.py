"""The process that Terraform starts: gRPC on a Unix socket, TLS, an orderly end.

Where the library `tf` serves, four things are done otherwise. The certificate is fresh, of an
elliptic curve and never written down. SIGINT, which a terminal sends to the whole process group,
does nothing: Terraform sends StopProvider, and an apply then ends its running steps and returns
what has come about, where dying would leave Terraform without any state. Exceptions become
diagnostics. Deleting is planned.

Terraform's own certificate is not asked for: it is of the curve P-521, which gRPC's TLS library
does not verify. Nobody else can connect: the socket is in a folder that only its owner may enter.
"""

from __future__ import annotations

import base64
import os
import signal
import sys
import tempfile
import threading
import traceback
from collections.abc import Callable
from concurrent import futures
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from tf.gen import grpc_controller_pb2 as controller
from tf.gen import grpc_controller_pb2_grpc as controller_rpc
from tf.gen import grpc_stdio_pb2_grpc as stdio_rpc
from tf.gen import tfplugin_pb2 as pb
from tf.gen import tfplugin_pb2_grpc as rpc
from tf.provider import ProviderServicer
from tf.utils import Diagnostics, read_dynamic_value

from builder.errors import PghaError
from builder.terraform.provider import PghaProvider

CORE_PROTOCOL, PLUGIN_PROTOCOL = 1, 6
_GUARDED = (
    "ValidateProviderConfig",
    "ValidateResourceConfig",
    "ValidateDataResourceConfig",
    "UpgradeResourceState",
    "ConfigureProvider",
    "ReadResource",
    "PlanResourceChange",
    "ApplyResourceChange",
    "ImportResourceState",
    "ReadDataSource",
)


class Servicer(ProviderServicer):  # type: ignore[misc]
    """The library's, with deleting planned, and stopping told to the provider."""

    app: PghaProvider

    def PlanResourceChange(self, request: Any, context: Any) -> Any:  # noqa: N802
        """Terraform asks about deleting, too; nothing is to be decided then."""
        if read_dynamic_value(request.proposed_new_state) is None:
            return pb.PlanResourceChange.Response(planned_state=request.proposed_new_state)
        return super().PlanResourceChange(request, context)

    def StopProvider(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.app.stop()
        return pb.StopProvider.Response()


def _guarded(name: str, method: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """What goes wrong reaches the user as a diagnostic; what should not have, with its trace in
    the log (TF_LOG)."""

    def answer(request: Any, context: Any) -> Any:
        try:
            return method(request, context)
        except PghaError as error:
            said = Diagnostics().add_error(
                error.what, "\n".join(filter(None, (error.why, error.do)))
            )
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            said = Diagnostics().add_error(
                f"pgha-build failed: {type(error).__name__}",
                "This is a defect of pgha-build. TF_LOG=debug shows where.",
            )
        response = getattr(pb, name).Response(diagnostics=said.to_pb())
        if name == "ApplyResourceChange":  # what was known stays known
            response.new_state.CopyFrom(request.prior_state)
        if name == "ReadResource":
            response.new_state.CopyFrom(request.current_state)
        return response

    return answer


def guarded(servicer: Servicer) -> Servicer:
    for name in _GUARDED:
        setattr(servicer, name, _guarded(name, getattr(servicer, name)))
    return servicer


class _Controller(controller_rpc.GRPCControllerServicer):  # type: ignore[misc]
    def __init__(self) -> None:
        self.over = threading.Event()

    def Shutdown(self, request: Any, context: Any) -> Any:  # noqa: N802
        self.over.set()
        return controller.Empty()


class _Stdio(stdio_rpc.GRPCStdioServicer):  # type: ignore[misc]
    def StreamStdio(self, request: Any, context: Any) -> Any:  # noqa: N802
        return iter(())


def serve() -> None:
    """Until Terraform says Shutdown, or is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = os.getppid()
    shutdown = _Controller()
    server = grpc.server(
        futures.ThreadPoolExecutor(max_workers=10),
        options=[("grpc.max_receive_message_length", 64 << 20)],
    )
    provider = PghaProvider()
    rpc.add_ProviderServicer_to_server(guarded(Servicer(provider)), server)
    controller_rpc.add_GRPCControllerServicer_to_server(shutdown, server)
    stdio_rpc.add_GRPCStdioServicer_to_server(_Stdio(), server)
    certificate, credentials = _identity()
    with tempfile.TemporaryDirectory(prefix="pgha-") as folder:
        socket = Path(folder) / "plugin.sock"
        server.add_secure_port(f"unix://{socket}", credentials)
        server.start()
        shown = base64.b64encode(certificate).decode().rstrip("=")
        head = (CORE_PROTOCOL, PLUGIN_PROTOCOL, "unix", socket, "grpc", shown)
        print("|".join(map(str, head)), flush=True)
        while not shutdown.over.wait(1.0):
            if os.getppid() != parent:
                provider.stop()  # Terraform is gone without a word: nobody hears what comes of it
                break
        server.stop(grace=1).wait()


def _identity() -> tuple[bytes, Any]:
    """A certificate for this run only (DER), and the server's credentials with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    usage = x509.KeyUsage(True, False, True, False, True, True, False, False, False)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(usage, critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pair = (private, certificate.public_bytes(serialization.Encoding.PEM))
    shown = certificate.public_bytes(serialization.Encoding.DER)
    return shown, grpc.ssl_server_credentials([pair])
