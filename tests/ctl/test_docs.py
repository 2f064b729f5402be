"""What the documents say is there is there: modules, files, links, commands, the README's configuration."""

import re
import shlex
from pathlib import Path

import pytest
import yaml

import reflector.config
from ctl.main import COMMANDS
from tests.ctl.cairn import ROOT

DOCUMENTS = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "configs").rglob("*.md")]
PACKAGES = "agent|bgpd|ctl|reflector"


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" not in target and not target.startswith("#"):
            assert (path.parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_modules_and_configurations_that_are_named_exist(path: Path) -> None:
    for name in re.findall(rf"`((?:{PACKAGES}|configs|tests|locks)/[\w./-]*)`", path.read_text()):
        assert any((ROOT / candidate).exists() for candidate in (name, f"{name}.py")), name


def test_the_architecture_names_functions_that_exist() -> None:
    text = (ROOT / "docs/architecture.md").read_text()
    for module, function in re.findall(rf"`((?:{PACKAGES})(?:/\w+)*)\.(\w+)\(", text):
        package = ROOT / module
        sources = (
            [package.with_suffix(".py")] if package.with_suffix(".py").exists() else package.glob("*.py")
        )
        assert any(re.search(rf"^def {function}\(", source.read_text(), re.MULTILINE) for source in sources)


def test_the_readme_names_commands_and_verbs_that_exist() -> None:
    text = (ROOT / "README.md").read_text()
    commands = [line.split("#")[0] for line in text.splitlines() if line.startswith("    ")]
    cairn = [shlex.split(line)[1] for line in commands if line.strip().startswith("cairn ")]
    assert set(cairn) >= {"apply", "plan", "diff", "agent", "reflector"}
    assert set(cairn) <= {row.name for row in COMMANDS}
    verbs = {shlex.split(line)[1] for line in commands if line.strip().startswith("./run ")}
    script = (ROOT / "run").read_text()
    assert verbs >= {"demo", "test", "setup"}
    assert all(f"    {verb})" in script for verb in verbs)


def test_the_readmes_reflector_configuration_is_whole(tmp_path: Path) -> None:
    [block] = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert len(yaml.safe_load(block)) == 5
    path = tmp_path / "reflector.yaml"
    path.write_text(block)
    assert reflector.config.load(path).asn == 65000
