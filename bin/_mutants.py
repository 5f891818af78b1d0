# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Break lines of the code one at a time, and see whether the unit tests notice. Called by bin/test mutants.

    python bin/_mutants.py LOG_DIR [--each N] [--seed WORD] [--lanes N] [FILE…]

Cosmic Ray makes the mutants; those of numbers are left out. Of each file a sample is tried, chosen by the seed, in copies of
this checkout, each mutant with the tests of its file. Prints a table by folder and each survivor, and writes them to
LOG_DIR/mutants.json. Survivors that are all right stand in tests/mutants.md with a reason: a line of code that works as well in
the other way.

Ends with 1 where less than LEAST of the others are killed.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from cosmic_ray.work_db import WorkDB, use_db
from cosmic_ray.work_item import TestOutcome

ROOT = Path(__file__).resolve().parents[1]
ACCEPTED = ROOT / "tests" / "mutants.md"
LEAST = 0.85
# Numbers are mostly limits that somebody has chosen; and for most values "is" means what "==" does.
LEFT_OUT = re.compile(r"NumberReplacer|_(Eq_Is|NotEq_IsNot)$")
SERVICE, UNIT = "roles/mlflow_server/files/service/mlflow_service", "tests/unit"
# Those of the API that ask for rights: all of them take half a minute, and a mutant has to be tried by the few that can tell.
RIGHTS = (
    "root_credentials_are_private_and_name_the_root", "unknown_key_and_wrong_secret_are_refused",
    "policies_that_cannot_be_enforced_are_refused", "instance_role_may_do_what_its_policy_says", "users_get_their_policies",
)  # fmt: skip


def api(*names: str) -> list[str]:
    return [f"localcloud/test_api.py::test_{name}" for name in names]


# What has tests of its own name needs no line here: test_NAME.py below tests/unit/plugins, service or localcloud.
TESTS = {
    "plugins/filter/cidr_problems.py": ["plugins/test_filters.py"],
    "plugins/filter/certificate_problems.py": ["plugins/test_filters.py"],
    "plugins/filter/server_hosts.py": ["plugins/test_filters.py"],
    **{f"plugins/{file}.py": ["plugins/test_authority.py"] for file in (
        "module_utils/_authority", "filter/authority_problems", "filter/new_authority", "filter/oldest_authority",
        "filter/signed_certificate",
    )},
    "plugins/filter/process_ended.py": ["plugins/test_process.py"],
    "plugins/inventory/servers.py": ["plugins/test_servers.py"],
    "plugins/lookup/controller_process.py": ["plugins/test_process.py"],
    "plugins/module_utils/_login.py": ["plugins/test_mlflow_login.py", "plugins/test_mlflow_service_file.py"],
    "plugins/module_utils/_passwords.py": ["plugins/test_secretsmanager_password.py", "plugins/test_secretsmanager_rotation.py"],
    "plugins/module_utils/_postgresql.py": ["plugins/test_postgresql.py", "plugins/test_mlflow_database.py"],
    "plugins/module_utils/_process.py": ["plugins/test_process.py"],
    "plugins/module_utils/_ssh.py": ["plugins/test_filters.py"],
    "plugins/modules/mlflow_ready.py": [
        "plugins/test_mlflow_ready.py", "plugins/test_as_clients_ask.py", "plugins/test_authority.py",
    ],
    "plugins/modules/host_files.py": ["plugins/test_host_files.py", "plugins/test_host_links.py"],
    f"{SERVICE}/database/schema.py": [
        "service/test_lower_version.py", "service/test_users_of_old.py", "service/test_prepare.py",
    ],
    f"{SERVICE}/database/prepare.py": [
        "service/test_prepare.py", "service/test_lower_version.py", "service/test_users_of_old.py",
    ],
    f"{SERVICE}/database/gc.py": ["service/test_gc.py", "service/test_client.py"],
    f"{SERVICE}/database/archive.py": ["service/test_archive.py"],
    f"{SERVICE}/database/errors.py": ["service/test_database_errors.py"],
    f"{SERVICE}/http/ready.py": ["service/test_ready.py", "service/test_store_settings.py"],
    f"{SERVICE}/http/logins.py": ["service/test_logins.py", "service/test_addresses.py"],
    **{f"{SERVICE}/{file}.py": ["service/test_application.py"] for file in (
        "http/admission", "http/proxied", "compat/processes", "compat/environment",
    )},
    f"{SERVICE}/compat/artifacts.py": [
        "service/test_artifacts.py", "service/test_streams.py", "service/test_upload_extra_args.py",
    ],
    f"{SERVICE}/compat/auth.py": ["service/test_logins.py"],
    f"{SERVICE}/compat/ground.py": ["service/test_ground.py", "service/test_probe.py"],
    f"{SERVICE}/compat/traces.py": ["service/test_bodies.py"],
    f"{SERVICE}/transfer/streams.py": ["service/test_streams.py", "service/test_upload_extra_args.py"],
    "localcloud/api/policy.py": ["localcloud/test_refused.py", *api("tls_only_policy_denies_plain_http_alone", *RIGHTS)],
    "localcloud/api/signature.py": ["localcloud/test_refused.py", *api("presigned_urls_work_and_are_checked", *RIGHTS)],
    "localcloud/api/identity.py": ["localcloud/test_refused.py", *api("presigned_urls_work_and_are_checked", *RIGHTS)],
    "localcloud/api/imds.py": ["localcloud/test_refused.py", *api(
        "metadata_wants_a_token_and_knows_its_caller", "a_token_of_the_metadata_is_for_its_instance_and_its_time",
        "instance_role_may_do_what_its_policy_says",
    )],
    "localcloud/api/refusals.py": ["localcloud/test_refused.py", *api("what_has_no_effect_is_refused")],
    "localcloud/parts/network.py": ["localcloud/test_parts.py"],
    "localcloud/parts/shell.py": ["localcloud/test_parts.py"],
    "localcloud/model.py": ["localcloud/test_parts.py"],
    "localcloud/config.py": ["localcloud/test_parts.py"],
}


def tests_of(file: str) -> list[str]:
    if file in TESTS:
        return [f"{UNIT}/{name}" for name in TESTS[file]]
    # A module and a part of the service may have one name, and pytest does not take both tests together.
    of = "plugins" if file.startswith("plugins/") else "service" if file.startswith(SERVICE) else "localcloud"
    return [str(path.relative_to(ROOT)) for path in sorted((ROOT / UNIT / of).glob(f"test_{Path(file).stem}.py"))]


def targets() -> list[str]:
    """The files that have tests of their own."""
    files = [*ROOT.glob("plugins/*/*.py"), *ROOT.glob(f"{SERVICE}/**/*.py"), *map(ROOT.joinpath, TESTS)]
    return sorted({str(file.relative_to(ROOT)) for file in files if tests_of(str(file.relative_to(ROOT)))})


def read_accepted(kinds: str) -> set[tuple[str, str]]:
    """(file, text) of the table of ACCEPTED: | file | `text` | reason |, of files that end so."""
    return accepted_in(ACCEPTED.read_text(encoding="utf-8"), kinds)


def accepted_in(text: str, kinds: str) -> set[tuple[str, str]]:
    rows = re.findall(rf"^\| *([^| ]+\.(?:{kinds})) *\| *`(.*)` *\| *\S.*\|$", text, re.MULTILINE)
    return {(file, line.replace("\\|", "|").strip()) for file, line in rows}


def changed(diff: str) -> tuple[int, str, str]:
    """The number of the line that a mutant changes, the line as it is, and as the mutant has it."""
    number, before, after = 0, "", ""
    for line in (diff or "").splitlines():
        if line.startswith(("---", "+++")):
            continue
        if found := re.match(r"@@ -(\d+)", line):
            number = int(found[1]) - 1
        elif line.startswith("+"):
            after = after or line[1:].strip()
        elif not before:
            number += 1
            before = line[1:].strip() if line.startswith("-") else ""
    return number, before, after


def copy(folder: Path) -> None:
    """What git knows of this checkout, as it is now, and the collections that it has installed."""
    names = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    # Those of others as they are; this one is the copy.
    others, ours = (top / ".ansible" / "collections" / "ansible_collections" for top in (ROOT, folder))
    (ours / "mlops").mkdir(parents=True)
    (ours / "mlops" / "mlflow_aws").symlink_to(folder)
    for name in others.iterdir() if others.is_dir() else []:
        if name.name != "mlops":
            (ours / name.name).symlink_to(name)


def without_effect(source: str) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    """
    Where a file says what nobody evaluates: annotations, and whether it is the file that was started.

    :return: Begin and end of each, as (line, column), lines counted from 1.
    """
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            named = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg]
            found += [node.returns, *(argument.annotation for argument in named if argument)]
        elif isinstance(node, ast.AnnAssign):
            found.append(node.annotation)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "__name__ == '__main__'":
            found.append(node.test)
    return [((it.lineno, it.col_offset), (it.end_lineno, it.end_col_offset)) for it in found if it]


def is_left_out(item, places: list) -> bool:
    return any(
        LEFT_OUT.search(mutation.operator_name)
        or any(begin <= tuple(mutation.start_pos) < end for begin, end in places)
        for mutation in item.mutations
    )


def attempt(file: str, folder: Path, each: int, seed: str) -> list[dict]:
    """What became of the sample of a file's mutants."""
    config, session = folder / "mutants.toml", folder / "mutants.sqlite"
    tests = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests_of(file)]
    begin = time.monotonic()
    subprocess.run(tests, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    limit = 10 + 3 * (time.monotonic() - begin)
    config.write_text(
        f'[cosmic-ray]\nmodule-path = "{file}"\ntimeout = {limit:.0f}.0\nexcluded-modules = []\n'
        f'test-command = "{" ".join(tests)}"\n[cosmic-ray.distributor]\nname = "local"\n'
    )
    session.unlink(missing_ok=True)
    cosmic_ray = [sys.executable, "-m", "cosmic_ray.cli"]
    subprocess.run([*cosmic_ray, "init", config, session], cwd=folder, check=True, capture_output=True)
    with use_db(session, WorkDB.Mode.open) as database:
        places = without_effect((folder / file).read_text(encoding="utf-8"))
        items = [item for item in database.work_items if not is_left_out(item, places)]
        items.sort(key=lambda item: str(item.mutations))
        chosen = random.Random(f"{seed} {file}").sample(items, min(each, len(items)))
        database.clear()
        database.add_work_items(chosen)
    subprocess.run([*cosmic_ray, "exec", config, session], cwd=folder, check=True, capture_output=True)
    with use_db(session, WorkDB.Mode.open) as database:
        results = [result for _job, result in database.results]
    found = []
    for result in results:
        number, before, after = changed(result.diff)
        killed = result.test_outcome != TestOutcome.SURVIVED
        found.append({"file": file, "line": number, "before": before, "after": after, "killed": killed})
    return found


def parse(description: str, each: int, of_what: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("log_dir", type=Path)
    parser.add_argument("files", nargs="*", help="these and no others")
    parser.add_argument("--each", type=int, default=each, help=f"mutants of a {of_what}, at most")
    parser.add_argument("--seed", default="1", help="of the sample")
    parser.add_argument("--lanes", type=int, default=os.cpu_count())
    return parser.parse_intermixed_args()


def in_lanes(
    number: int, waiting: list, work: Callable[[object, Path], None], whole: Callable[[Path], bool] = lambda folder: True
) -> list[str]:
    """
    Call `work` with each that waits and a copy of this checkout, so many side by side; returns what went wrong.

    :arg whole: Whether a copy is in order before anything in it is broken; where it is not, nothing is tried in it.
    """
    lock, broken = threading.Lock(), []

    def lane() -> None:
        with tempfile.TemporaryDirectory(prefix="mutants-") as name:
            copy(Path(name))
            if not whole(Path(name)):
                broken.append("The tests fail without any change.")
                return
            while True:
                with lock:
                    if not waiting:
                        return
                    item = waiting.pop(0)
                try:
                    work(item, Path(name))
                except Exception as error:
                    broken.append(f"{item}: {error}")

    lanes = [threading.Thread(target=lane) for _ in range(number)]
    for thread in lanes:
        thread.start()
    for thread in lanes:
        thread.join()
    return broken + ([f"{len(waiting)} were not tried."] if waiting else [])


def tell(found: list[dict], left: list[dict], group: Callable[[dict], str]) -> float:
    """Print how many of each group were killed, of those that are not accepted; returns the share of all."""
    counted = [result for result in found if result["killed"] or result in left]
    of = Counter(map(group, counted))
    killed = Counter(group(result) for result in counted if result["killed"])
    for name, number in sorted(of.items()):
        print(f"{name:<44}{killed[name]:>5} of {number:<5}{killed[name] / number:>6.0%}")
    share = sum(killed.values()) / max(len(counted), 1)
    print(f"{'all':<44}{sum(killed.values()):>5} of {len(counted):<5}{share:>6.0%}; {len(found) - len(counted)} accepted")
    return share


def main() -> None:
    arguments, found = parse(__doc__, 8, "file"), []

    def work(file: str, folder: Path) -> None:
        begin = time.monotonic()
        results = attempt(file, folder, arguments.each, arguments.seed)
        found.extend(results)
        killed = sum(result["killed"] for result in results)
        print(f"  {file}: {killed} of {len(results)} killed in {time.monotonic() - begin:.0f} s", flush=True)

    broken = in_lanes(arguments.lanes, list(arguments.files or targets()), work)
    accepted = read_accepted("py")
    left = [result for result in found if not result["killed"] and (result["file"], result["after"]) not in accepted]
    share = tell(found, left, lambda result: str(Path(result["file"]).parent))
    for result in sorted(left, key=lambda result: (result["file"], result["line"])):
        print(f"survived: {result['file']}:{result['line']}: {result['before']}\n          {result['after']}")
    for line in broken:
        print(f"FAILED: {line}")
    (arguments.log_dir / "mutants.json").write_text(json.dumps(found, indent=1))
    sys.exit(1 if broken or share < LEAST else 0)


if __name__ == "__main__":
    main()
