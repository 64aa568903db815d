"""The connection to HashiCorp Vault, through hvac: TLS by pinned authorities, a token that is kept alive, and errors.

Nothing is taken from the environment: no address, token, proxy or authority. No redirect is followed. An answer is read
up to a bound and a deadline.
"""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import hvac
import requests
import urllib3
from hvac import exceptions
from requests.adapters import HTTPAdapter

from cloister.errors import NotReady, Unavailable
from cloister.kit.log import get_logger
from cloister.provisioner.vaults.settings import TransitSettings
from cloister.provisioner.vaults.vault import REFUSED, UNAVAILABLE
from cloister.rpc.files import read_guarded, read_private

MOST_ANSWER_BYTES: Final = 1 << 20
_PIECE_BYTES: Final = 64 << 10
_RENEWED_AT: Final = 2 / 3
"""Of a token's life."""
LOGIN_PAUSE_S: Final = 5.0
"""Between two logins: Vault locks out who tries too often."""
_WRONG_TOKEN: Final = (exceptions.Forbidden, exceptions.Unauthorized)

_log = get_logger()
Answer = dict[str, Any]


class TransitClient:
    """One Vault, spoken to under one token. Blocking and thread safe.

    Args:
        settings: Of the back end.
        monotonic: A clock that never goes back, in seconds.
    """

    def __init__(self, settings: TransitSettings, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._monotonic = monotonic
        self._login = threading.Lock()
        self._renew_at = float("inf")
        self._next_login_at = float("-inf")
        self._hvac = hvac.Client(
            url=settings.address,
            token="",  # else hvac looks for one in the environment and in the home folder
            verify=str(settings.ca_file),
            timeout=settings.deadline_s,
            allow_redirects=False,
            session=_session(settings),
            namespace=settings.namespace or None,
        )

    def ask(self, request: Callable[[hvac.Client], Any]) -> Answer:
        """The `data` of an answer; logs in where Vault wants it, and asks once more.

        Raises:
            Unavailable: Vault cannot be reached, is sealed, or says that it cannot now (`vault.unavailable`).
            NotReady: It refuses us, or this, or answers what is no answer (`vault.refused`).
        """
        with _translated():
            self.keep_alive()
            try:
                answer = request(self._hvac)
            except _WRONG_TOKEN:
                self._log_in(self._hvac.token)
                answer = request(self._hvac)
        return _member(answer, "data")

    def keep_alive(self) -> None:
        """Log in, or renew the token, where it is time to; raises as `ask`."""
        with _translated():
            if not self._hvac.token:
                self._log_in("")
            elif self._monotonic() >= self._renew_at:
                self._renew()

    def _renew(self) -> None:
        with self._login:
            if self._monotonic() < self._renew_at:
                return
            try:
                self._note(_member(self._hvac.auth.token.renew_self(), "auth"))
                return
            except _WRONG_TOKEN:
                stale = self._hvac.token
        self._log_in(stale)

    def _log_in(self, stale: str) -> None:
        """Get another token than `stale`, unless somebody has meanwhile."""
        with self._login:
            if self._hvac.token != stale:
                return
            if self._monotonic() < self._next_login_at:
                raise NotReady("Vault does not let us do this, and we logged in a moment ago", reason=REFUSED)
            self._next_login_at = self._monotonic() + LOGIN_PAUSE_S
            try:
                self._get_token()
            except exceptions.InvalidRequest as error:
                raise NotReady("Vault does not take our login", reason=REFUSED) from error
        _log.info("vault.logged_in", back_end="transit")

    def _get_token(self) -> None:
        settings, mount = self._settings, self._settings.login_mount
        if settings.token_file is not None:
            self._hvac.token = _text(read_private(settings.token_file))
            self._note_token()
        elif settings.secret_id_file is not None:
            login, secret_id = self._hvac.auth.approle.login, _text(read_private(settings.secret_id_file))
            self._take(login(settings.app_role, secret_id, use_token=False, mount_point=mount or "approle"))
        elif settings.jwt_file is not None:  # Kubernetes lets others read it
            login, jwt = self._hvac.auth.kubernetes.login, _text(read_guarded(settings.jwt_file))
            self._take(login(settings.kubernetes_role, jwt, use_token=False, mount_point=mount or "kubernetes"))

    def _take(self, answer: Any) -> None:
        auth = _member(answer, "auth")
        token = auth.get("client_token")
        if not isinstance(token, str) or not token:
            raise _no_answer()
        self._hvac.token = token
        self._note(auth)

    def _note_token(self) -> None:
        """When a token from a file is to be renewed; one that may not even ask is used as it is."""
        self._renew_at = float("inf")
        try:
            found = _member(self._hvac.auth.token.lookup_self(), "data")
        except _WRONG_TOKEN:
            return
        self._note({"lease_duration": found.get("ttl"), "renewable": found.get("renewable")})

    def _note(self, auth: Answer) -> None:
        life_s = auth.get("lease_duration")
        known = isinstance(life_s, int) and life_s > 0 and auth.get("renewable") is True
        self._renew_at = self._monotonic() + life_s * _RENEWED_AT if known and life_s else float("inf")


class _Bounded(HTTPAdapter):
    """Reads an answer whole, up to a size and for so long, before anybody looks at it."""

    def __init__(self, within_s: float) -> None:
        super().__init__()
        self._within_s = within_s

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """See `HTTPAdapter`."""
        ends_at = time.monotonic() + self._within_s
        response = super().send(request, *args, **{**kwargs, "stream": True})
        content = bytearray()
        while piece := response.raw.read1(_PIECE_BYTES, decode_content=False):
            content += piece
            if len(content) > MOST_ANSWER_BYTES or time.monotonic() > ends_at:
                response.raw.close()
                raise requests.exceptions.ReadTimeout("too large an answer, or too slow", request=request)
        response.raw.release_conn()
        response.raw = io.BytesIO(content)
        return response


def _text(content: bytes) -> str:
    return content.decode("ascii", "replace").strip()


def _session(settings: TransitSettings) -> requests.Session:
    session = requests.Session()
    session.trust_env = False
    session.verify = str(settings.ca_file)
    session.headers["Accept-Encoding"] = "identity"
    session.mount("https://", _Bounded(settings.deadline_s))
    return session


@contextmanager
def _translated() -> Iterator[None]:
    """What hvac, requests and files complain of, as errors of ours; none of them with what was sent."""
    try:
        yield
    except exceptions.InvalidRequest:
        raise  # what it is about, the caller knows
    except (exceptions.Forbidden, exceptions.Unauthorized) as error:
        raise NotReady("Vault does not let us do this: see its policies, and our login", reason=REFUSED) from error
    except exceptions.InvalidPath as error:
        raise NotReady("Vault has no such key, or nothing is mounted there", reason=REFUSED) from error
    except exceptions.VaultError as error:
        raise Unavailable(f"Vault cannot do it now ({type(error).__name__})", reason=UNAVAILABLE) from error
    except requests.exceptions.SSLError as error:
        raise Unavailable("Vault's certificate is not from the authorities in ca_file", reason=UNAVAILABLE) from error
    except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
        raise Unavailable(f"Vault cannot be reached ({type(error).__name__})", reason=UNAVAILABLE) from error
    except OSError as error:  # the file of authorities
        raise NotReady(f"ca_file cannot be read ({error.strerror or 'it is not there'})", reason=REFUSED) from error


def _member(answer: Any, name: str) -> Answer:
    """A member of an answer. What is no JSON came half, or from a proxy that stands before Vault."""
    if not isinstance(answer, dict):
        raise Unavailable("what came was no whole answer of Vault's", reason=UNAVAILABLE)
    found = answer.get(name)
    if not isinstance(found, dict):
        raise _no_answer()
    return found


def _no_answer() -> NotReady:
    return NotReady("what Vault answered is not what it is documented to", reason=REFUSED)
