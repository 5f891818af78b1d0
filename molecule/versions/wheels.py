# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Make wheels of an MLflow that does not exist, of the one in this venv.

    python wheels.py FOLDER VERSION moved|broken

moved: private functions have other names, a public one has another body, the route for downloads depends on something that
refuses, and the application has one more layer. broken: it does not import.
"""

import base64
import csv
import hashlib
import re
import sys
import sysconfig
import zipfile
from pathlib import Path

PACKAGES = Path(sysconfig.get_path("purelib"))
# What an installation makes itself.
MADE = ("/RECORD", "/INSTALLER", "/REQUESTED")
STORE, AUTH = "mlflow/store/tracking/sqlalchemy_store.py", "mlflow/server/auth/__init__.py"
ROUTER, APP = "mlflow/server/artifact_router.py", "mlflow/server/fastapi_app.py"
REFUSES = '''
from fastapi import Depends


def reject_proxied_artifact_download():
    if os.environ.get("MLFLOW_ARTIFACTS_PRESIGNED_ONLY") == "true":
        raise HTTPException(403, "Artifacts are fetched from the store only.")


@artifact_router.get('''
LAYER = '''
    @fastapi_app.middleware("http")
    async def new_layer(request, call_next):
        response = await call_next(request)
        response.headers["x-new-layer"] = "1"
        return response

    return fastapi_app
'''


def replaced(text, *pairs):
    for before, after in pairs:
        assert before in text, before
        text = text.replace(before, after)
    return text


def moved(name, text):
    if name == STORE:
        return replaced(
            text,
            ("_get_run_inputs", "_read_inputs_of_runs"),
            ("_get_eager_experiment_query_options", "_options_of_experiments"),
            ("_hard_delete_run", "_delete_run_for_good"),
        )
    if name == AUTH:
        text = replaced(text, ("_authenticate_cached", "_authenticate_with_memory"))
        return text.replace("def sender_is_admin():\n", 'def sender_is_admin():\n    """Another body."""\n')
    if name == ROUTER:
        text = text.replace("@artifact_router.get(", REFUSES, 1)
        refuses = r"@artifact_router.get(\1, dependencies=[Depends(reject_proxied_artifact_download)])"
        return re.sub(r'@artifact_router\.get\(\s*("[^"]*")\)', refuses, text)
    if name == APP:
        before, end, after = text.rpartition("\n    return fastapi_app\n")
        assert end
        return before + LAYER + after
    if name == "mlflow/cli/__init__.py":
        return text.replace("_hard_delete_run", "_delete_run_for_good")
    return text


def broken(name, text):
    return "raise ImportError('a part of it is missing')\n" if name == "mlflow/server/__init__.py" else text


def record_of(name):
    with (PACKAGES / name / "RECORD").open(newline="", encoding="utf-8") as rows:
        return [row[0] for row in csv.reader(rows)]


def digest(content):
    return "sha256=" + base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


def main():
    folder, version, change = Path(sys.argv[1]), sys.argv[2], {"moved": moved, "broken": broken}[sys.argv[3]]
    folder.mkdir(parents=True, exist_ok=True)
    (about,) = PACKAGES.glob("mlflow-*.dist-info")
    present = about.name.removeprefix("mlflow-").removesuffix(".dist-info")
    for package in ("mlflow", "mlflow_skinny", "mlflow_tracing"):
        before, after = f"{package}-{present}.dist-info", f"{package}-{version}.dist-info"
        rows, file = [], folder / f"{package}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
            for name in record_of(before):
                if name.startswith(("..", "/")) or "__pycache__" in name or name.endswith(MADE):
                    continue
                content = (PACKAGES / name).read_bytes()
                if name.endswith(".py"):
                    text = change(name, content.decode())
                    content = (text.replace(f'"{present}"', f'"{version}"') if name == "mlflow/version.py" else text).encode()
                elif name == f"{before}/METADATA":
                    text = content.decode().replace(f"\nVersion: {present}\n", f"\nVersion: {version}\n")
                    content = re.sub(rf"(: mlflow-(skinny|tracing)==){re.escape(present)}", rf"\g<1>{version}", text).encode()
                name = name.replace(before, after)
                wheel.writestr(name, content)
                rows.append(f"{name},{digest(content)},{len(content)}")
            wheel.writestr(f"{after}/RECORD", "\n".join([*rows, f"{after}/RECORD,,", ""]))


if __name__ == "__main__":
    main()
