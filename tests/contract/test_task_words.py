# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""What a task says beside its module: when, as whom, once or on each host, in a plan too, and what is a change or a failure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
import yaml
from repository import ROOT, load_yaml, relative
from tasks import FILES, INNER, module_of, task, tasks_of
from test_reach import brought, module_name, talks

COMMANDS = {"command", "shell", "raw", "script"}
REAL_RUN = "not ansible_check_mode"
AWS_ROLES = ("ec2", "iam", "network", "rds", "s3")
SERVER = ROOT / "roles" / "mlflow_server" / "tasks"
DATABASE = ROOT / "roles" / "mlflow_database" / "tasks"


@dataclass(frozen=True, eq=False)
class Step:
    """A task, with what is said of it by itself, by the blocks around it and by who brings its file in."""

    path: Path
    task: dict
    #: All that has to be true: what is joined by "and" counts one by one.
    whens: tuple[str, ...]
    #: Who says that it is done once, from the outside in: files.
    once: tuple[Path, ...]
    #: Below which words of a block or a play it stands in its own file, with that block.
    around: tuple[tuple[str, dict], ...]

    def __str__(self) -> str:
        return f"{relative(self.path)}: {self.task.get('name')}"

    @property
    def own_whens(self) -> tuple[str, ...]:
        return conditions(self.task.get("when"))

    @property
    def in_rescue(self) -> bool:
        return any(word == "rescue" for word, _block in self.around)


def conditions(when) -> tuple[str, ...]:
    """What has to be true, one by one."""
    if when is None:
        return ()
    found = []
    for text in when if isinstance(when, list) else [when]:
        text = " ".join(str(text).split())
        found += [text] if re.search(r"\bor\b|[({\[]", text) else text.split(" and ")
    return tuple(found)


@cache
def loaded(path: Path):
    return load_yaml(path)


def steps(path: Path, items, follow: bool = True, whens=(), once=(), around=(), seen=()):
    """The tasks of a file or of a play, and those that they bring in."""
    for item in items or []:
        inner = [key for key in INNER if key in item]
        now = (*whens, *conditions(item.get("when")))
        once_now = (*once, path) if item.get("run_once") is True else once
        for key in inner:
            yield from steps(path, item[key], follow, now, once_now, (*around, (key, item)), seen)
        if inner or "hosts" in item or module_name(item) in ("", "import_playbook"):
            continue
        yield Step(path, item, now, once_now, around)
        file = brought(path, item) if follow else None
        if file and file.exists() and file not in seen:
            yield from steps(file, loaded(file), True, now, once_now, (), (*seen, file))


def by_file() -> list[Step]:
    """Each task once, by what its own file says."""
    return [step for path in FILES if path.parent.name != "vars" for step in steps(path, loaded(path), follow=False)]


ENTRIES = [*sorted((ROOT / "playbooks").glob("*.yml")), *sorted((ROOT / "roles").glob("*/tasks/main.yml"))]


@cache
def by_way() -> tuple[Step, ...]:
    """Each task as often as there are ways to it, from a playbook or from a role that is run as a whole."""
    return tuple(step for path in ENTRIES for step in steps(path, loaded(path)))


def named(found) -> list[str]:
    return sorted({str(step) for step in found})


def names(found) -> set[str]:
    return {step.task["name"] for step in found}


def arguments_of(task: dict):
    return next((value for key, value in task.items() if "." in key), None)


def is_command(task: dict) -> bool:
    return module_name(task) in COMMANDS


def makes_a_file(task: dict) -> bool:
    return bool({"creates", "removes"} & set(module_of(task)[1]))


def only_looks(task: dict) -> bool:
    """A command that tells something and changes nothing, or whose change is what a plan would tell."""
    said = task.get("changed_when")
    return is_command(task) and "register" in task and (said is False or "ansible_check_mode" in str(said))


def registered() -> dict[str, list[Step]]:
    found: dict[str, list[Step]] = {}
    for step in by_file():
        if "register" in step.task:
            found.setdefault(step.task["register"], []).append(step)
    return found


def test_all_tasks_are_found():
    every = {(path, item.get("name")) for path in FILES if path.parent.name != "vars" for item in tasks_of(path)}
    assert {(step.path, step.task.get("name")) for step in by_file()} == every
    # On its way from somewhere, too.
    reached = {step.path for step in by_way()}
    assert {path for path, _name in every} - reached - set(ENTRIES) <= {
        *((ROOT / "roles" / role / "tasks" / "preflight.yml") for role in ("network", "s3")),
    }


# -- what counts as a change -----------------------------------------------------------------------------------------


def test_a_command_says_whether_it_changes_anything():
    """Once: where a file decides whether it is run, changed_when would tell of a change that was not made."""
    wrong = [step for step in by_file() if is_command(step.task) and ("changed_when" in step.task) == makes_a_file(step.task)]
    assert not named(wrong)


def test_a_name_in_the_inventory_is_no_change():
    wrong = [step for step in by_file() if module_name(step.task) == "add_host" and step.task.get("changed_when") is not False]
    assert not named(wrong)


def test_what_a_plan_tells_is_a_change_where_the_module_that_makes_it_is_not_asked():
    told = [step for step in by_file() if module_name(step.task) == "debug" and re.search(
        r"^Would |\bwould be installed\b", str(module_of(step.task)[1].get("msg")))]  # fmt: skip
    assert len(told) > 3
    # RDS's module is asked in a plan, too, and says so itself.
    assert names(step for step in told if step.task.get("changed_when") is not True) == {"Tell which database would be made"}


def test_what_fails_in_a_plan_alone_is_told_as_a_change():
    """apt can't look at a host that has neither its Python nor its lists; the real run fetches both."""
    apt = [step for step in by_file() if module_name(step.task) == "apt"]
    assert len(apt) > 1
    for step in apt:
        forgiven, told = str(step.task.get("failed_when")), str(step.task.get("changed_when"))
        (reason,) = set(re.findall(r"search\('(.*?)'\)", forgiven))
        assert "ansible_check_mode" in forgiven and f"search('{reason}')" in told and "is changed" in told, str(step)


def test_what_a_plan_tells_in_place_of_a_module_that_module_is_not_asked():
    for path in FILES:
        if path.parent.name != "vars":
            found = list(steps(path, loaded(path), follow=False))
            for number, step in enumerate(found):
                if str(module_of(step.task)[1].get("msg")).startswith("Would ") and step.task.get("changed_when") is True:
                    done = next(one for one in found[number:] if module_of(one.task)[0].startswith("amazon.aws."))
                    assert "ansible_check_mode" in step.own_whens and REAL_RUN in done.own_whens, str(done)


# -- in a plan -------------------------------------------------------------------------------------------------------


def test_what_only_looks_looks_in_a_plan_too():
    """Ansible skips a command there, and who reads its answer has none."""
    looking = [step for step in by_way() if only_looks(step.task)]
    assert len(named(looking)) > 10
    assert not named(step for step in looking if step.task.get("check_mode") is not False and REAL_RUN not in step.whens)


def test_what_changes_something_is_not_done_in_a_plan():
    """check_mode: false is for commands that only look; a module that looks knows of plans itself."""
    assert not named(step for step in by_file() if step.task.get("check_mode") is False and not only_looks(step.task))


# -- as whom ---------------------------------------------------------------------------------------------------------

# Facts and connections are anybody's; the rest of ansible.builtin that is used here installs, writes, or asks systemd.
ANYBODYS = {"setup", "ping", "wait_for_connection"}


def test_what_is_done_on_a_host_is_done_as_root():
    """The server's own role is looked at as a whole by test_reach."""
    ours = [
        step
        for step in by_way()
        if step.path.parent == DATABASE or step.task.get("delegate_to", "localhost") != "localhost"
        if talks(step.task) and any(key.startswith("ansible.builtin.") for key in step.task)
        if module_name(step.task) not in ANYBODYS
    ]
    assert {module_name(step.task) for step in ours} >= {"apt", "dnf", "get_url", "command"}
    assert not named(step for step in ours if step.task.get("become") is not True)


def test_what_a_block_has_said_is_not_said_again():
    """What is brought in within a block is done as the block says."""
    wrong = []
    for step in by_file():
        again = step.task.get("become", (module_of(step.task)[1].get("apply") or {}).get("become"))
        if again is not None and any(block.get("become") == again for _word, block in step.around):
            wrong.append(step)
    assert not named(wrong)


# -- once, or on each host -------------------------------------------------------------------------------------------

OF_ONE = re.compile(r"^inventory_hostname == ")


def test_what_all_hosts_share_is_touched_by_one_of_them():
    """AWS, Secrets Manager and the database's roles: two hosts at it together would collide."""
    shared = []
    for path in ENTRIES:
        for play in loaded(path) if path.parent.name == "playbooks" else []:
            if play.get("hosts") == "mlflow_server":
                shared += [
                    step
                    for step in steps(path, [play])
                    if step.task.get("delegate_to") == "localhost" or (step.path.parent == DATABASE and talks(step.task))
                ]
    assert {"secretsmanager_rotation", "rds_instance", "mlflow_database", "mlflow_database_rotation"} <= {
        module_name(step.task) for step in shared
    }
    # Who brings the role in says for whom, whatever the role says itself.
    wrong = [
        step
        for step in shared
        if not any(OF_ONE.match(one) for one in step.whens) and not any(path.parent != DATABASE for path in step.once)
    ]
    assert not named(wrong)


def test_the_database_is_made_once_by_who_runs_its_role_on_many_hosts():
    main = [step for step in steps(DATABASE / "main.yml", loaded(DATABASE / "main.yml")) if talks(step.task)]
    assert main and not named(step for step in main if not step.once)


def test_hosts_take_turns_where_their_processes_are_replaced():
    """Meanwhile a host has twice as many connections to the database."""
    replacing = [step for step in by_file() if module_of(step.task)[1].get("name") == "mlflow-handover.service"]
    assert len(replacing) > 1 and not named(step for step in replacing if step.task.get("throttle") != 1)


def test_who_is_the_first_host_does_not_depend_on_the_inventorys_order():
    """run_once takes the first in the play's order, and conditions take the first by name."""
    plays = [play for path in ENTRIES if path.parent.name == "playbooks" for play in loaded(path)]
    found = [play for play in plays if "ansible_play_hosts | sort | first" in str(play) and "'run_once': True" in str(play)]
    assert found and all(play.get("order") == "sorted" for play in found)


# -- when ------------------------------------------------------------------------------------------------------------


def test_what_ends_a_run_or_leaves_a_host_out_has_a_condition():
    """But for who tells why something has failed, at the end of its rescue."""
    ends = [step for step in by_file() if module_name(step.task) == "fail" or arguments_of(step.task) in ("end_host", "end_play")]
    assert len(ends) > 40
    assert not named(step for step in ends if not step.own_whens and not step.in_rescue)
    for step in ends:
        if step.in_rescue:
            word, block = step.around[-1]
            assert block[word][-1] == step.task, str(step)


# What is said in each run that comes there.
SAID_ALWAYS = {
    "Say what would be installed",
    "Say what this run does",
    "Say what was rotated, and what is left to you",
}


def test_what_is_said_is_said_where_it_is_so():
    said = [step for step in by_file() if module_name(step.task) == "debug"]
    assert len(said) > 20 and names(step for step in said if not step.own_whens) == SAID_ALWAYS


# Brought in without a condition by a role, where that is static everywhere else.
INCLUDED_ALWAYS = {
    # Taken again when there is a client, with other answers.
    "roles/mlflow_database/tasks/database.yml: Make the roles and the database",
    "roles/mlflow_database/tasks/rotation.yml: Take the step",
    # In a rescue: what failed is the condition.
    "roles/mlflow_server/tasks/service.yml: Look whether it is the installation that is broken",
    "roles/network/tasks/absent.yml: Find the VPC",
}


def test_what_a_role_brings_in_while_it_runs_has_a_condition_or_a_loop():
    """What is always there is imported. An include that has lost its condition installs, removes or restarts in each run."""
    found = [step for step in by_file() if step.path.is_relative_to(ROOT / "roles") and module_name(step.task) == "include_tasks"]
    assert len(found) > 20
    assert {str(step) for step in found if not step.own_whens and "loop" not in step.task} == INCLUDED_ALWAYS


@pytest.mark.parametrize("role", AWS_ROLES)
def test_nothing_of_aws_is_made_or_removed_unless_that_was_asked_for(role):
    """A role that is to remove makes nothing, and the reverse."""
    present, absent = (f"{role}_state == '{state}'" for state in ("present", "absent"))
    main = ROOT / "roles" / role / "tasks" / "main.yml"
    modules = [(step, module_of(step.task)[0]) for step in steps(main, loaded(main))]
    changing = [step for step, module in modules if re.match(r"(amazon|mlops)\.", module) and not module.endswith("_info")]
    assert changing
    assert not named(step for step in changing if not {present, absent} & set(step.whens))
    removing = [step for step in changing if module_of(step.task)[1].get("state") == "absent"]
    assert removing and not named(step for step in removing if absent not in step.whens)


# What a role asks of who removes, too: by that it finds what is to go.
ASKED_OF_WHO_REMOVES = {"Check the name"}


def test_who_removes_a_network_is_not_asked_who_may_reach_it():
    """teardown.yml may be run with nothing but a name and a region."""
    path = ROOT / "roles" / "network" / "tasks" / "preflight.yml"
    checks = list(steps(path, loaded(path)))
    assert names(step for step in checks if "network_state == 'present'" not in step.whens) == ASKED_OF_WHO_REMOVES


def play_steps(playbook: str, hosts: str) -> list[Step]:
    path = ROOT / "playbooks" / f"{playbook}.yml"
    return [step for play in loaded(path) if play.get("hosts") == hosts for step in steps(path, [play])]


def brings(step: Step, part: str) -> bool:
    return module_name(step.task) == "include_role" and module_of(step.task)[1].get("tasks_from") == part


def test_a_file_that_brings_itself_in_again_has_a_condition_to_end_with():
    again = [step for step in by_file() if brought(step.path, step.task) == step.path]
    assert again and not named(step for step in again if not step.own_whens)


def test_a_plan_takes_no_lease_for_site_yml():
    """A rotation's module knows of plans; who plans site.yml has no database to ask, or does not wait for another run."""
    inner = [step for step in play_steps("site", "mlflow_server") if brings(step, "rotation")]
    assert {step.path.name for step in inner} == {"lease.yml", "lease_wait.yml", "lease_renew.yml", "lease_end.yml"}
    assert not named(step for step in inner if REAL_RUN not in step.whens)


@pytest.mark.parametrize("playbook", ["rotate_db_password", "rotate_all"])
def test_what_was_changed_is_proven_and_a_plan_has_changed_nothing(playbook):
    found = play_steps(playbook, "mlflow_server")
    # Who has a password that is current changes it; all others prove one.
    changing = [step for step in found if "current" in (step.task.get("vars") or {}).get("mlflow_server_user_password", {})]
    proving = [step for step in found if brings(step, "login") or (brings(step, "user_password") and step not in changing)]
    assert len(proving) > 1
    assert not named(step for step in proving if REAL_RUN not in step.whens)
    # MLflow keeps one password for all hosts.
    assert all(any(OF_ONE.match(one) for one in step.whens) for step in changing)


SHOWS_ONLY = "rotate_show | default(false) | bool"
# Before anything is shown or rotated.
SHOWN_TOO = {"Refuse to leave a host behind", "Leave behind what can't be waited for", "Look who is there"}


@pytest.mark.parametrize("playbook", ["rotate_db_password", "rotate_all"])
def test_who_wants_to_see_the_state_changes_nothing(playbook):
    path = ROOT / "playbooks" / f"{playbook}.yml"
    (play,) = [play for play in loaded(path) if play.get("hosts") == "mlflow_server"]
    found = list(steps(path, [play], follow=False))
    showing = {"Tell the state"} if playbook == "rotate_db_password" else set()
    assert names(step for step in found if SHOWS_ONLY in step.whens) == showing
    assert names(step for step in found if f"not {SHOWS_ONLY}" not in step.whens) - showing <= SHOWN_TOO


def test_all_hosts_are_asked_whether_they_serve_now_or_later():
    """As the old role may be holding what they need."""
    found = [step for step in play_steps("rotate_db_password", "mlflow_server") if brings(step, "ask")]
    later = {next((one for one in step.own_whens if "mlflow_aws_asks_later" in one), None) for step in found}
    assert later == {"mlflow_aws_asks_later | bool", "not mlflow_aws_asks_later | bool"}


def test_a_host_is_left_out_where_somebody_has_said_so():
    """Or where there is nothing on it yet that a plan could look at."""
    ways = [step for step in by_way() if arguments_of(step.task) == "end_host"]
    assert len(named(ways)) > 3
    for step in ways:
        said = " ".join(step.whens)
        assert re.search(r"mlflow_aws_(left_behind|absent|goes_on)|not-made-yet", said), str(step)


def test_what_is_not_there_yet_is_not_written_into_a_secret():
    """A plan has no endpoint."""
    writing = [
        step
        for step in by_way()
        if module_name(step.task) == "secretsmanager_password" and not step.in_rescue
        if re.search(r"'values': \{'host': '\{\{", str(step.task))
    ]
    assert len(named(writing)) > 1 and not named(step for step in writing if REAL_RUN not in step.own_whens)


def test_rds_is_given_a_master_password_that_waits_for_it_and_none_in_a_plan():
    found = [step for step in by_way() if step.path.name == "rotation_admin.yml" and module_name(step.task) != "fail"]
    assert found and not named(step for step in found if REAL_RUN not in step.whens)
    (give,) = {step.task["name"]: step for step in found if module_name(step.task) == "rds_instance"}.values()
    assert {"mlflow_aws_admin_rotation.status == 'pending'", "mlflow_database_rotation_found.admin_password == 'current'"} <= set(
        give.own_whens
    )


def test_a_lane_does_what_is_its_own():
    """Each of them comes to every task of its play."""
    for playbook in ("site", "teardown"):
        path = ROOT / "playbooks" / f"{playbook}.yml"
        for play in loaded(path):
            if str(play.get("hosts")).startswith("mlflow_aws_lanes"):
                for step in steps(path, [play], follow=False):
                    alike = "mlflow_aws_lane" in str(step.task.get("loop")) or module_name(step.task) in ("assert", "set_fact")
                    assert alike or any(OF_ONE.match(one) for one in step.own_whens), str(step)


def test_who_waits_for_ssh_waits_for_what_was_just_started_and_refuses_nothing():
    """The look after it says who is not there. It would be minutes for each host that is away."""
    (wait,) = [step for step in play_steps("site", "mlflow_server") if module_name(step.task) == "wait_for_connection"]
    assert wait.task.get("failed_when") is False and any("launch_time" in one for one in wait.own_whens)


def test_who_gives_a_public_key_has_none_made_and_none_read():
    path = ROOT / "roles" / "ec2" / "tasks" / "key.yml"
    found = [step for step in steps(path, loaded(path)) if module_name(step.task) in ("file", "command")]
    assert len(found) > 2 and not named(step for step in found if "ec2_ssh_public_key_file | length == 0" not in step.own_whens)


def test_what_is_fetched_has_an_address():
    """Without one there is nothing to be fetched, and a file that was given would be overwritten."""
    fetching = [step for step in by_file() if module_name(step.task) == "get_url"]
    assert len(fetching) > 2
    for step in fetching:
        (name,) = re.findall(r"\w+_ca_url", module_of(step.task)[1]["url"])
        said = " and ".join(step.own_whens)
        assert f"{name} != ''" in said and f"{name.replace('url', 'file')} == ''" in said, str(step)


def test_a_role_that_is_only_planned_is_given_nothing():
    path = ROOT / "roles" / "iam" / "tasks" / "role.yml"
    given = [step for step in steps(path, loaded(path)) if module_name(step.task) in ("iam_policy", "iam_instance_profile")]
    assert len(given) == 2 and all("not __iam_planned | bool" in step.own_whens for step in given)


# Conditions that say nothing of what was found: they are the same in each run.
NOT_FOUND = re.compile(r"^(not )?(ansible_check_mode|__mlflow_server_plan_only \| bool)$|_(state|tls|installer) [!=]= ")
# Brought in as a whole where something was found: no venv that is finished.
AS_A_WHOLE = {SERVER / "venv.yml"}


def test_a_command_that_always_changes_something_is_run_where_something_was_found():
    """A second run changes nothing."""
    changing = [step for step in by_way() if is_command(step.task) and step.task.get("changed_when") is True]
    assert len(named(changing)) > 8
    for step in changing:
        asked = step.whens if step.path in AS_A_WHOLE else step.own_whens
        assert not all(NOT_FOUND.search(one) for one in asked), str(step)
        # That something was written is so in a plan, too, where there may be nothing that the command could be run on.
        if any(one.endswith("is changed") for one in step.own_whens):
            assert REAL_RUN in step.whens or step.in_rescue, str(step)


def test_a_distributions_packages_are_asked_for_where_that_is_the_distribution():
    for module, family in {"apt": "debian", "dnf": "redhat"}.items():
        found = [step for step in by_file() if module_name(step.task) == module]
        assert len(found) > 1
        for step in found:
            assert any(one.lower().endswith(f"== '{family}'") for one in step.own_whens), str(step)


# Their units are made by this role, which may not have been here yet; and each start or stop of them is felt.
OURS = {"mlflow.service", "mlflow-next.service", "mlflow-handover.service"}


def test_a_unit_is_stopped_where_it_is_there_and_the_servers_own_are_touched_where_that_is_needed():
    found = [step for step in by_file() if module_name(step.task) == "systemd_service"]
    stopping = [step for step in found if module_of(step.task)[1].get("state") == "stopped"]
    ours = [step for step in found if module_of(step.task)[1].get("name") in OURS]
    assert len(stopping) > 3 and len(ours) > 4
    assert not named(step for step in [*stopping, *ours] if not step.own_whens)


# What they do needs an installation, or units and packages that a plan of a new host has not got.
NEEDS_AN_INSTALLATION = {
    SERVER / f"{name}.yml"
    for name in ("database", "service", "timer", "jobs", "proxy", "acme", "acme_prepare")
}


def test_a_plan_of_a_new_host_looks_at_nothing_that_is_not_there():
    found = [step for step in by_way() if step.path in NEEDS_AN_INSTALLATION]
    assert {step.path for step in found} == NEEDS_AN_INSTALLATION
    assert not named(step for step in found if "not __mlflow_server_plan_only | bool" not in step.whens)


def test_a_plan_starts_no_unit_that_it_would_have_written():
    """What is switched on for the first time on a host that serves: systemd knows no such unit yet, and the module fails."""
    optional = {SERVER / f"{name}.yml" for name in ("timer", "jobs")}
    starting = [
        step
        for step in by_file()
        if step.path in optional and module_name(step.task) == "systemd_service"
        and module_of(step.task)[1].get("state") not in ("stopped", None)
    ]  # fmt: skip
    assert {step.path for step in starting} == optional
    assert not named(step for step in starting if not any("ansible_check_mode" in when for when in step.own_whens))


def test_of_two_blocks_that_are_all_of_a_file_one_is_done():
    """As where something is wanted, and where it is not."""
    pairs = {path: loaded(path) for path in SERVER.glob("*.yml") if all("block" in item for item in loaded(path))}
    pairs = {path: [item.get("when") for item in items] for path, items in pairs.items() if len(items) == 2}
    assert len(pairs) > 1
    for path, (one, other) in pairs.items():
        assert one and other and other in (f"not {one}", one.replace("==", "!=")), path.name


def test_what_one_kind_of_tls_needs_is_done_for_that_kind():
    path = SERVER / "proxy.yml"
    found = [step for step in steps(path, loaded(path), follow=False) if talks(step.task)]
    kinds = {"provided": [], "acme": []}
    for step in found:
        for kind in kinds:
            if re.search(rf"tls_key_file|tls/{kind}\.|acme_renewal", str(arguments_of(step.task))) and kind in str(step.task):
                kinds[kind].append(step)
    assert all(kinds.values())
    for kind, of_kind in kinds.items():
        assert not named(step for step in of_kind if f"mlflow_server_tls == '{kind}'" not in step.own_whens)


def test_certbot_is_not_asked_in_a_plan_and_deletes_what_this_role_has_asked_it_for():
    found = [step for step in by_file() if "certbot" in str(arguments_of(step.task)) and talks(step.task)]
    deleting = [step for step in found if "'certbot', 'delete'" in str(step.task)]
    assert len(deleting) > 1
    for step in deleting:
        assert any("acme_mark_file" in one or one == "mlflow_server_tls != 'acme'" for one in step.whens), str(step)
    using = [step for step in found if step not in deleting and module_name(step.task) in ("command", "systemd_service")]
    assert len(using) > 1 and not named(step for step in using if REAL_RUN not in step.own_whens)


def test_packages_are_installed_by_one_installer():
    path = SERVER / "venv.yml"
    for installer in ("uv", "pip"):
        found = [step for step in steps(path, loaded(path)) if re.search(rf"\b{installer}\b", step.task["name"])]
        assert found and all(step.own_whens == (f"mlflow_server_installer == '{installer}'",) for step in found)


def test_a_list_of_what_is_removed_may_have_empty_names():
    """A file that only one distribution has is one; the module would refuse it, and what stands behind it would stay."""
    found = [
        step
        for step in by_file()
        if module_name(step.task) == "file" and module_of(step.task)[1].get("path") == "{{ item }}" and len(step.task["loop"]) > 5
        if isinstance(step.task["loop"], list)
    ]
    assert found and all(step.own_whens == ("item | length > 0",) for step in found)


def test_what_would_be_lost_is_touched_where_the_look_before_has_said_so():
    """A schema, the key of all sessions, root's copy of a password, the mark of a venv that is whole, groups that are in use."""
    assert {REAL_RUN, "(__mlflow_server_look.stdout | from_json).changed"} <= set(
        conditions(task("mlflow_server", "database.yml", "Migrate the database and make the administrator")["when"])
    )
    key = task("mlflow_server", "database.yml", "Write the key that the hosts share by their database")
    assert "mlflow_server_flask_secret_key == ''" in str(key["when"]) and "__mlflow_server_told.key" in str(key["when"])
    hooks = task("mlflow_server", "database.yml", "Write the key for webhooks that the hosts share by their database")
    assert "mlflow_server_webhook_key == ''" in str(hooks["when"]) and "__mlflow_server_told.webhook_key" in str(hooks["when"])
    replacing = [
        step for step in by_file() if any(item.get("replace") for item in mappings(module_of(step.task)[1].get("takes") or []))
    ]
    assert replacing and all(step.own_whens == ("__mlflow_server_password_made",) for step in replacing)
    unmarking = [step for step in by_file() if module_of(step.task)[1].get("absent") == ["{{ __mlflow_server_mark_file }}"]]
    assert unmarking and all(step.own_whens == ("__mlflow_server_whole.rc != 0",) for step in unmarking)
    path = ROOT / "roles" / "rds" / "tasks" / "absent.yml"
    database = [step for step in steps(path, loaded(path)) if re.search("'values'|skip_final_snapshot", str(step.task))]
    assert len(database) > 2 and all("__rds_current | length > 0" in step.whens for step in database)
    groups = [step for step in play_steps("teardown", "localhost") if "mlflow_aws.network" in str(step.task)]
    assert groups and all(REAL_RUN in step.own_whens for step in groups)


# -- again -----------------------------------------------------------------------------------------------------------


def test_what_is_tried_again_says_until_when_how_often_and_with_which_pause():
    """Without until, a task with retries waits for another thing: that it does not fail."""
    words = {"until", "retries", "delay"}
    trying = [step for step in by_file() if words & set(step.task)]
    assert len(trying) > 3 and not named(step for step in trying if not words <= set(step.task))
    assert not named(step for step in trying if step.task.get("register", "nothing") not in str(step.task["until"]))


# -- what has failed -------------------------------------------------------------------------------------------------

#: The answer's own words about a failure, and the missing of what an answer always has.
JUDGED = r"\b{}(?: \| default\({{}}\))?\)?\.(?:rc\b|msg is (?:not )?defined|\w+ is not defined)"


def judged_by(text: str, name: str) -> bool:
    return bool(re.search(JUDGED.format(name), text) or re.search(rf"\b{name} is (failed|not succeeded)", text))


def test_what_another_task_judges_does_not_fail_by_itself():
    """That one tells the reason in a sentence, also where no_log would hide it, or decides what is done instead."""
    texts = [path.read_text() for path in FILES if path.parent.name == "vars"]
    texts += [path.read_text() for path in (ROOT / "roles").glob("*/vars/main.yml")]
    judging = " ".join(" ".join(text.split()) for text in texts)
    for step in by_file():
        given = {"when": step.task.get("when"), "vars": step.task.get("vars")}
        if module_name(step.task) == "assert":
            given["that"] = str(module_of(step.task)[1]["that"]).replace(" is defined", " is not defined")
        judging += " " + " ".join(str(value) for value in given.values())
        # By another name.
        for name, value in (step.task.get("vars") or {}).items():
            if judged_by(str(step.task), name):
                judging += "".join(f" {word}.rc" for word in re.findall(r"\w+", str(value)))
    found = {name: made for name, made in registered().items() if judged_by(judging, name)}
    assert len(found) > 15
    wrong = [
        step
        for made in found.values()
        for step in made
        if not {"failed_when", "ignore_errors"} & set(step.task)
        # A rescue tells as well.
        if not any(word == "block" and "rescue" in block for word, block in step.around)
    ]
    assert not named(wrong)


def test_what_looks_for_a_reason_does_not_hide_it_by_failing():
    """Within a rescue the last task tells what has failed; what stands before it is an attempt."""
    trying = [step for step in by_file() if step.in_rescue and module_name(step.task) not in ("fail", "include_tasks")]
    assert len(trying) > 4
    # Where the site can't be put back there is no other reason to tell.
    assert names(step for step in trying if step.task.get("failed_when") is not False) == {"Put the former site back"}


def test_a_refusal_that_aws_gives_in_an_answer_is_one_and_what_is_gone_already_is_none():
    group = task("rds", "parameter_group.yml", "Make sure of the parameter group")
    assert ".errors | default([]) | length > 0" in group["failed_when"]
    is_failed, of_another_kind = task("iam", "absent.yml", "Remove the role's policy")["failed_when"]
    assert is_failed.endswith("is failed") and of_another_kind.startswith("'NoSuchEntity' not in ")


# -- blocks ----------------------------------------------------------------------------------------------------------


def blocks(items):
    for item in items or []:
        for key in INNER:
            if key in item:
                yield from blocks(item[key])
        if "block" in item:
            yield item


BLOCKS = [(path, block) for path in FILES if path.parent.name != "vars" for block in blocks(loaded(path))]


def test_a_block_is_for_something():
    """For a word that holds for all of it, or for what is done where it fails, or in any case."""
    assert len(BLOCKS) > 15
    assert not [f"{relative(path)}: {block['name']}" for path, block in BLOCKS if set(block) == {"name", "block"}]


def inside(block: dict, word: str) -> list[dict]:
    return [step.task for step in steps(ROOT, block.get(word), follow=False)]


def innermost(path: Path, wanted) -> list[dict]:
    """The blocks of a file that have such a task, without those around them."""
    found = [block for file, block in BLOCKS if file == path and any(wanted(task) for task in inside(block, "block"))]
    return [one for one in found if not any(other is not one and str(other) in str(one) for other in found)]


def test_whoever_takes_the_lease_for_a_block_gives_it_back_in_any_case():
    """Nobody else could work on the deployment until it ends by itself. A rotation keeps it: the next run goes on with it."""
    site = ROOT / "playbooks" / "site.yml"
    around = [block for path, block in BLOCKS if path == site and "tasks/lease.yml" in str(block["block"])]
    # Where there is a choice, it is the block around that one.
    around = [block for block in around if not any(block in other["block"] for other in around)]
    assert around
    assert all("tasks/lease_end.yml" in str(block.get("always")) for block in around)


def test_what_lifts_a_protection_sets_it_again_where_it_does_not_go_on():
    path = ROOT / "roles" / "rds" / "tasks" / "absent.yml"

    def protection(task):
        return module_of(task)[1].get("deletion_protection")

    def address(task):
        secrets = module_of(task)[1].get("secrets") or [{}]
        return (secrets[0].get("values") or {}).get("host")

    lifting = innermost(path, lambda task: protection(task) is False or address(task) == "")
    assert lifting
    for block in lifting:
        rescue = inside(block, "rescue")
        assert True in map(protection, rescue) and any(map(address, rescue))


def test_who_starts_the_service_or_waits_for_it_tells_where_to_look():
    """By the journal's last lines, or at least by its name."""
    units = {"mlflow.service", "mlflow-handover.service"}

    def starts(task):
        arguments = module_of(task)[1]
        return module_name(task) == "mlflow_ready" or (arguments.get("name") in units and arguments.get("state") == "started")

    for path in sorted(SERVER.glob("*.yml")):
        for step in steps(path, loaded(path), follow=False):
            if starts(step.task):
                rescue = next((block["rescue"] for _word, block in reversed(step.around) if "rescue" in block), None)
                after = [one.task for one in steps(path, loaded(path), follow=False) if "journalctl" in str(one.task)]
                assert rescue or step.task.get("failed_when") is False, str(step)
                assert "journalctl" in str(rescue or after), str(step)


# -- whose files -----------------------------------------------------------------------------------------------------


def mappings(tree):
    if isinstance(tree, dict):
        yield tree
    for value in tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list) else []:
        yield from mappings(value)


def test_a_file_for_its_group_to_read_says_which_group_that_is():
    """One that is nobody else's to read, and of root's group, is not read by the service."""
    found = [
        item
        for path in FILES
        for item in mappings(loaded(path))
        if re.fullmatch(r"0[0-7]{3}", str(item.get("mode"))) and int(item["mode"], 8) & 0o047 == 0o040
    ]
    assert len(found) > 5
    assert not [item for item in found if item.get("group", "root") == "root"]


def test_what_is_the_services_own_is_so_with_its_group():
    found = [item for path in FILES for item in mappings(loaded(path)) if item.get("owner") == "{{ __mlflow_server_user }}"]
    assert found and not [item for item in found if item.get("group") != item["owner"]]


def test_a_module_that_keeps_a_files_owner_is_told_who_it_is():
    """Those of ansible.builtin leave the owner of a file that is there already."""
    writing = [step for step in by_way() if module_name(step.task) in ("copy", "template", "get_url")]
    assert writing
    assert not named(step for step in writing if not {"owner", "group", "mode"} <= set(module_of(step.task)[1]))


def test_a_secret_is_not_shown_whichever_way_it_has_come():
    """test_secrets follows them by name; these are a command's answer, all that is known, and what the module itself hides."""
    told = task("mlflow_server", "database.yml", "Write the key that the hosts share by their database")
    assert told.get("no_log") is True and told.get("diff") is False
    facts = [step for step in by_file() if module_name(step.task) == "set_fact"]
    bags = [step for step in facts if "mlflow_aws_known" in module_of(step.task)[1]]
    changing = [step for step in by_file() if module_of(step.task)[1].get("force_update_password")]
    assert len(bags) > 1 and changing
    assert not named(step for step in [*bags, *changing] if step.task.get("no_log") is not True)


def test_what_is_a_program_may_be_run():
    """One that is written as a file like any other is run by nobody."""
    folders = [ROOT / "roles" / "mlflow_server" / name for name in ("templates", "files")]
    programs = []
    for item in (item for path in FILES for item in mappings(loaded(path)) if "path" in item):
        name = re.search(r"lookup\('ansible.builtin.(?:file|template)', '(.*?)'", str(item.get("content")))
        sources = [folder / name[1] for folder in folders if name and (folder / name[1]).is_file()]
        programs += [item for source in sources if source.read_text().startswith("#!") and "bin" in source.read_text()[:20]]
    assert len(programs) > 1 and all(item.get("mode") == "0755" for item in programs)


def test_a_module_of_ours_is_given_all_that_it_requires():
    for module in sorted((ROOT / "plugins" / "modules").glob("*.py")):
        text = re.search(r'^DOCUMENTATION = r?"""(.*?)"""', module.read_text(), re.DOTALL | re.MULTILINE)
        options = yaml.safe_load(text[1])["options"]
        required = {name for name, option in options.items() if option.get("required")}
        asked = [step for step in by_file() if module_of(step.task)[0] == f"mlops.mlflow_aws.{module.stem}"]
        assert asked and not named(step for step in asked if not required <= set(module_of(step.task)[1])), module.stem
