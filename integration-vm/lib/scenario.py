"""A scenario: a folder with scenario.toml, and a script 'run' or the name of a test assembly."""

import tomllib
from dataclasses import dataclass, field, fields
from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "scenarios"
IOMMU_MODES = "legacy", "scalable"


class Wrong(Exception):
    """What was asked for cannot be run, and why."""


@dataclass(frozen=True)
class Scenario:
    name: str
    proves: str                                          # one line
    needs: list[str] = field(default_factory=list)       # components, beyond those of the virtual host itself
    tests: str = ""                                      # a folder of tests/, instead of the script 'run'
    arguments: list[str] = field(default_factory=list)   # for the test assembly
    iommu: list[str] = field(default_factory=lambda: ["legacy"])   # one run each
    kernels: list[str] = field(default_factory=list)     # on which it has to pass as well, with --all
    devices: list[str] = field(default_factory=lambda: ["edu", "nvme", "e1000e"])
    memory_mib: int = 4096
    append: str = ""                                     # for the kernel's command line
    deadline_s: int = 300
    more_s: dict[str, int] = field(default_factory=dict)   # on top of it, for each that a variable of the environment asks for
    silence_s: int = 120                                 # so long without a word from it or the kernel, and it hangs
    kernel_may_say: list[str] = field(default_factory=list)   # troubles that are not held against it
    attempts: int = 1                                    # begun again when its guest, emulated twice over, was lost; see docs/virtual-host.md
    brief: dict[str, str] = field(default_factory=dict)  # variables that --all sets, where the whole would take too long
    only_by_name: str = ""                               # why --all leaves it out
    fails_with: str = ""                                 # it is there to fail, for this reason (a regular expression)

    @property
    def folder(self):
        return FOLDER / self.name

    def deadline(self, environment):
        return self.deadline_s + sum(each * int(environment.get(variable) or 0) for variable, each in self.more_s.items())


def read(name):
    path = FOLDER / name / "scenario.toml"
    try:
        table = tomllib.loads(path.read_text())
        unknown = table.keys() - {f.name for f in fields(Scenario)} | table.keys() & {"name"}
        if unknown:
            raise Wrong(f"{path}: unknown: {', '.join(sorted(unknown))}")
        scenario = Scenario(name, **table)
    except FileNotFoundError:
        raise Wrong(f"there is no scenario '{name}'; there are: {', '.join(names())}") from None
    except (tomllib.TOMLDecodeError, TypeError) as e:
        raise Wrong(f"{path}: {e}") from None
    if bool(scenario.tests) == (scenario.folder / "run").exists():
        raise Wrong(f"{path}: wants either 'tests' or a script 'run' beside it")
    if not scenario.iommu or set(scenario.iommu) - set(IOMMU_MODES):
        raise Wrong(f"{path}: 'iommu' is a list of {', '.join(IOMMU_MODES)}")
    return scenario


def names():
    return sorted(path.parent.name for path in FOLDER.glob("*/scenario.toml"))
