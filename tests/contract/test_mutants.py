# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What bin/test mutants leaves out is one word of a task with all of its lines, and what it breaks of Python has an effect."""

from __future__ import annotations

import sys

import pytest
import yaml

pytest.importorskip("cosmic_ray")

from repository import ROOT  # noqa: E402

sys.path.insert(0, str(ROOT / "bin"))

import _mutants  # noqa: E402
import _mutants_yaml  # noqa: E402

TASKS = """---
- name: Write it
  ansible.builtin.copy:
    dest: /etc/x
    mode: "0600"
  when:
    - a
    # Said why.
    - >-
      b
      or c

  no_log: true
- name: A block
  become: true
  block: []
"""
UNIT = """{{ ansible_managed | comment }}
[Service]
# Not this.
ProtectHome=true
{% if x %}
RestrictRealtime=true
{% endif %}
"""


def test_a_word_goes_with_all_of_its_lines():
    lines = TASKS.splitlines(keepends=True)
    found = {mutant.kind: mutant for mutant in _mutants_yaml.words_of("x.yml", TASKS)}
    assert sorted(found) == ["become", "mode", "no_log", "when"]
    first, second = yaml.safe_load(found["when"].without(lines))
    assert first == {"name": "Write it", "ansible.builtin.copy": {"dest": "/etc/x", "mode": "0600"}, "no_log": True}
    assert second == {"name": "A block", "become": True, "block": []}
    assert found["when"].text(lines) == "when: - a # Said why. - >- b or c"
    assert yaml.safe_load(found["mode"].without(lines))[0]["ansible.builtin.copy"] == {"dest": "/etc/x"}


def test_a_directive_is_a_line_that_says_something():
    found = _mutants_yaml.directives_of("roles/x/templates/sandbox.conf.j2", UNIT)
    lines = UNIT.splitlines(keepends=True)
    assert [mutant.text(lines) for mutant in found] == ["ProtectHome=true", "RestrictRealtime=true"]
    assert "RestrictRealtime" not in found[1].without(lines) and "ProtectHome" in found[1].without(lines)


def test_every_word_of_this_collection_can_be_left_out():
    mutants = _mutants_yaml.all_mutants()
    assert len({mutant.kind for mutant in mutants}) > 15
    for mutant in mutants:
        if mutant.file.endswith(".yml"):
            yaml.safe_load(mutant.without((ROOT / mutant.file).read_text(encoding="utf-8").splitlines(keepends=True)))


def test_who_survives_with_a_reason_is_known_by_file_and_text():
    table = "| roles/x/tasks/main.yml | `when: a \\| b` | a reason |\n| roles/x/tasks/main.yml | `become: true` | |\n"
    assert _mutants.accepted_in(table, _mutants_yaml.ENDINGS) == {("roles/x/tasks/main.yml", "when: a | b")}


CODE = """
def f(a: int | None = 1 | 2, *rest: str | bytes) -> str | None:
    value: int | None = a | 4
    return value


if __name__ == "__main__":
    f()
"""


def test_what_nobody_evaluates_is_not_broken():
    lines = CODE.splitlines()

    def of(begin, end):
        assert begin[0] == end[0]
        return lines[begin[0] - 1][begin[1] : end[1]]

    found = sorted(of(*place) for place in _mutants.without_effect(CODE))
    assert found == ['__name__ == "__main__"', "int | None", "int | None", "str | None", "str | bytes"]
