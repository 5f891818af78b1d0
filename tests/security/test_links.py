# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Links that the service's user leaves in its own folders lead root nowhere, when a playbook runs the next time."""

from __future__ import annotations

import pytest
from attacks import holds, refused, works
from clients import API

PLANT = r"""
set -eu
# Before the first playbook; the next one finds what the one before has left.
mkdir -p /root/victim
[ -e /root/victim/file ] || echo root >/root/victim/file
chmod 0640 /root/victim/file
chmod 0755 /root/victim
# Where the service may write: what is its user's. As whoever took it over would, its user makes the links.
folders=$(find / -xdev -user mlflow -type d -not -path '/proc/*' -not -path '/tmp/*' -not -path '/var/tmp/*' 2>/dev/null)
names="admin-password nginx.loaded nginx.loaded.new started started.new .ansible .mlflow .aws gc.lock auth.ini mlflow.env"
for folder in $folders; do
  for name in $names; do
    runuser -u mlflow -- sh -c '[ -e "$1" ] || [ -L "$1" ] || ln -s /root/victim/file "$1"' sh "$folder/$name"
  done
  [ -L "$folder/folder" ] || runuser -u mlflow -- ln -sn /root/victim "$folder/folder"
done
# And the spool itself, where its parent is the service's own.
if [ ! -L /var/lib/mlflow/tmp ] && runuser -u mlflow -- mv -T /var/lib/mlflow/tmp /var/lib/mlflow/tmp.kept 2>/dev/null; then
  runuser -u mlflow -- ln -s /root/victim /var/lib/mlflow/tmp
fi
echo "$folders"
"""
LOOK = "stat --format '%U:%G %a %s %n' /root/victim /root/victim/file; cat /root/victim/file; find /root/victim | wc -l"
CLEAN = r"""
if [ -L /var/lib/mlflow/tmp ]; then rm -f /var/lib/mlflow/tmp; fi
if [ -d /var/lib/mlflow/tmp.kept ]; then
  rmdir /var/lib/mlflow/tmp 2>/dev/null
  mv -T /var/lib/mlflow/tmp.kept /var/lib/mlflow/tmp
fi
find / -xdev -type l -lname '/root/victim*' -not -path '/proc/*' -delete 2>/dev/null
rm -rf /root/victim
"""


def followed_by(play, servers):
    """What a playbook says with the links in each folder, and whether root has followed one."""
    folders = [server.run(PLANT) for server in servers]
    assert all("/var/lib/mlflow" in found for found in folders)
    before = [server.run(LOOK) for server in servers]
    code, output = play()
    for server, looked in zip(servers, before, strict=True):
        holds(server.run(LOOK) == looked, f"{looked}\nbecame\n{server.run(LOOK)}")
    return code, output


@pytest.mark.slow
@pytest.mark.everyday
def test_root_follows_no_link_of_the_services(deployment, servers, people):
    """Before site.yml and each rotation, planted anew: what they lead to keeps its owner, its mode and its content."""
    try:
        code, output = followed_by(deployment.site, servers)
        # It goes through, or it says what is in its way.
        assert code == 0 or "link" in output, output[-3000:]
        code, output = followed_by(deployment.rotate, servers)
        assert code == 0, output[-3000:]
        former = people.admin.known_as(people.admin.password)
        code, output = followed_by(lambda: deployment.play("playbooks/rotate_all.yml"), servers)
        # It is somebody else's password for all the tests that follow.
        people.admin.password = deployment.user["password"]
        assert code == 0, output[-3000:]
        works(people.admin.get(f"{API}/webhooks"))
        refused(former.get(f"{API}/webhooks"), 401)
    finally:
        for server in servers:
            server.run(CLEAN, check=False)
    code, output = deployment.site()
    assert code == 0, output[-3000:]
    works(people.owner.get(f"{API}/users/current"))
    works(people.stranger.get("/ready"))
