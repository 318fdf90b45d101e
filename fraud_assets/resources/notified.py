"""Who was told of which incidents, kept in the data directory, and the sending of what is new to each.

Each target has its own memory, so that one that is down is told later, and the others are not told twice. What an
incident is, and what is said of it: `fraud_assets.incidents`.
"""

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from filelock import FileLock

from fraud_assets.files import replacing
from fraud_assets.incidents import Incident, Message, messages

LOG: Final = "log"
"""The target that is always there, and always takes what it is told: its memory is that of the platform."""


@dataclass(frozen=True)
class Notified:
    """What each target was told and not yet told to be over; `targets` are addresses in Apprise's form."""

    data_dir: Path
    targets: Sequence[str] = ()
    feed: str = ""

    def known(self) -> list[Incident]:
        """Return the incidents that the log was told of."""
        return self._read().get(LOG, [])

    def tell(self, found: Sequence[Incident], log: Callable[[Message], None]) -> list[str]:
        """Tell each target what is new to it; return what could not be sent, without a word of an address.

        A message counts as told once it was sent: a process that dies in between sends it again. One that a target does
        not take is tried again with the next call; if its incident is over by then, that target hears of neither.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        with FileLock(self.data_dir / ".notified.lock"):
            told, problems = self._read(), []
            senders: dict[str, Callable[[Message], bool]] = {LOG: lambda message: log(message) is None}
            senders |= {_name(target): self._sender(target) for target in self.targets}
            # Who is no target any more is forgotten, and told anew of what is wrong when it comes back.
            told = {name: told.get(name, []) for name in senders}
            for number, (name, send) in enumerate(senders.items()):
                for message in messages(told[name], found):
                    if not send(message):
                        problems.append(f"target {number} of FRAUD_NOTIFY did not take: {message.title}")
                        break
                    told[name] = _after(told[name], message)
                    self._write(told)
        return problems

    def _sender(self, target: str) -> Callable[[Message], bool]:
        def send(message: Message) -> bool:
            import apprise  # Half a second, for those who send.

            logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # It names addresses, and they hold secrets.
            kind = apprise.NotifyType.SUCCESS if message.is_over else apprise.NotifyType.FAILURE
            sender = apprise.Apprise()
            title = f"[{self.feed}] {message.title}" if self.feed else message.title
            return sender.add(target) and bool(sender.notify(title=title, body=message.body, notify_type=kind))

        return send

    @property
    def _path(self) -> Path:
        return self.data_dir / ".notified.json"

    def _read(self) -> dict[str, list[Incident]]:
        try:
            stored = json.loads(self._path.read_bytes())
            return {name: [Incident(**one) for one in found] for name, found in stored.items()}
        except (FileNotFoundError, ValueError, TypeError):  # What is damaged, or of another release, is said again.
            return {}

    def _write(self, told: Mapping[str, Iterable[Incident]]) -> None:
        with replacing(self._path) as fresh:
            fresh.write_text(json.dumps({name: [vars(one) for one in found] for name, found in told.items()}))


def _after(told: Iterable[Incident], message: Message) -> list[Incident]:
    concerned = {one.id for one in message.incidents}
    rest = [one for one in told if one.id not in concerned]
    return rest if message.is_over else [*rest, *message.incidents]


def _name(target: str) -> str:
    """Return a name under which a target is remembered; the address itself is written nowhere."""
    return sha256(target.encode()).hexdigest()[:16]
