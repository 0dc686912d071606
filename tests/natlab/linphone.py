"""linphonec as a phone, driven over its standard input; it plays a tone and records what it hears."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from tests.natlab.laboratory import Host
from tests.natlab.namespaces import LaboratoryFault, Program
from tests.tones import Heard, examine, read_wave, tone, write_wave


@dataclass
class Linphone:
    """One linphonec in a host's namespace; `answer` makes it take every call."""

    host: Host
    user: str
    server: str
    directory: Path
    frequency: float
    password: str = "pw"
    answer: bool = False

    def __enter__(self) -> Linphone:
        home = self.directory / "home"
        (home / ".local/share/linphone").mkdir(parents=True, exist_ok=True)
        (home / ".config/linphone").mkdir(parents=True, exist_ok=True)
        settings = self.directory / "linphonerc"
        settings.write_text("[sip]\nsip_port=5060\n[sound]\necho_cancellation=0\n")
        pipe = self.directory / "commands"
        os.mkfifo(pipe)
        answering = " -a" if self.answer else ""
        self.program: Program = self.host.namespace.start(
            "sh", "-c", f"exec linphonec -c {settings} -d 0{answering} < {pipe}",
            name=f"linphone-{self.user}", directory=self.directory, environment={"HOME": str(home)},
        )  # fmt: skip
        self._input: IO[str] = pipe.open("w")
        time.sleep(1.0)
        self.say("soundcard use files")
        self.say(f"register sip:{self.user}@{self.server} sip:{self.server} {self.password}")
        self._until("status register", "identity=")
        self.say(f"play {write_wave(self.directory / 'tone.wav', tone(self.frequency, 60.0))}")
        self.say(f"record {self.directory / 'heard.wav'}")
        time.sleep(0.3)
        return self

    def __exit__(self, *_: object) -> None:
        if self.program.process.poll() is None:
            self.say("quit")
        self._input.close()
        self.program.stop(seconds=3.0)

    def say(self, line: str) -> None:
        self._input.write(line + "\n")
        self._input.flush()
        time.sleep(0.15)

    def dial(self, target: str) -> None:
        self.say(f"call sip:{target}@{self.server}")

    def hang_up(self) -> None:
        self.say("terminate")

    def wait_established(self) -> None:
        """Wait until a call is up. What happens by itself is not printed to a pipe, so it is asked for."""
        self._until("calls", "streamsrunning")

    def heard(self, far: float) -> Heard:
        samples, rate = read_wave(self.directory / "heard.wav")
        return examine(samples, rate, far=far, own=self.frequency)

    def _until(self, question: str, text: str, seconds: float = 10.0) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.program.output().lower():
            if time.monotonic() > deadline:
                raise LaboratoryFault(f"{self.user}: linphone did not say {text!r}:\n{self.program.output()[-3000:]}")
            self.say(question)
