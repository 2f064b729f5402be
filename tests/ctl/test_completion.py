"""Shell completion: the scripts are what the shells take, and commands and options are offered."""

import shutil
import subprocess

import pytest

from tests.ctl.cairn import cairn, clean_environment

SCRIPTS = {"bash": ("bash", "-n"), "zsh": ("zsh", "-n"), "fish": ("fish", "-n")}


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_the_shells_language(shell: str) -> None:
    done = cairn(environment={"_CAIRN_COMPLETE": f"source_{shell}"})
    assert done.code == 0, done.err
    assert "_CAIRN_COMPLETE" in done.out
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed: its script was not read by it")
    subprocess.run(SCRIPTS[shell], input=done.out, text=True, check=True, env=clean_environment())


def test_commands_and_options_are_offered() -> None:
    for words, wanted in (
        ("cairn st", {"status"}),
        ("cairn re", {"reflector", "render"}),
        ("cairn render b", {"bird"}),
        ("cairn status --data", {"--datastore"}),
    ):
        done = cairn(
            environment={
                "_CAIRN_COMPLETE": "complete_bash",
                "COMP_WORDS": words,
                "COMP_CWORD": str(len(words.split()) - 1),
            }
        )
        assert set(done.out.split()) == wanted, (words, done.out, done.err)
