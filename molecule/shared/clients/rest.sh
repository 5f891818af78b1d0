#!/usr/bin/env bash
# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
#
# The REST API by curl, as a script without MLflow's client uses it.
#
#   rest.sh ADDRESS CERTIFICATE FOLDER <LOGIN
#
# LOGIN is a line of curl's own settings, user = "NAME:PASSWORD", so that no process shows it.
set -euo pipefail
address=$1 certificate=$2 folder=$3
read -r login
name=mlflow.example.com
url=https://$name
api=$url/api/2.0/mlflow
files=$url/api/2.0/mlflow-artifacts/artifacts
again=$(date +%s%N)
curl=(curl --silent --show-error --max-time 60 --cacert "$certificate" --resolve "$name:443:$address" --resolve "$name:80:$address")

fail() {
  echo "$*" >&2
  exit 1
}

# status WANTED ARGUMENT…: without a login, the server answers with that status (a regular expression).
status() {
  local wanted=$1 found
  shift
  found=$("${curl[@]}" --output "$folder/answer" --write-out '%{http_code}' "$@")
  [[ $found =~ ^($wanted)$ ]] || fail "$found and not $wanted: $(tail -c 300 <<<"$*"): $(head -c 500 "$folder/answer")"
}

# as_user WANTED ARGUMENT…: the same with the login.
as_user() {
  local wanted=$1
  shift
  status "$wanted" --config <(printf '%s\n' "$login") "$@"
}

# post PATH BODY, get PATH [NAME=VALUE…]: answered with 200.
post() { as_user 200 --json "$2" "$api/$1"; }
get() {
  local path=$1 arguments=() pair
  shift
  for pair in "$@"; do
    arguments+=(--data-urlencode "$pair")
  done
  as_user 200 --get "${arguments[@]}" "$api/$path"
}

# holds EXPRESSION: so says jq of the last answer.
holds() { jq --exit-status "$1" "$folder/answer" >/dev/null || fail "not so: $1: $(head -c 1000 "$folder/answer")"; }
value() { jq --raw-output "$1" "$folder/answer"; }

# --- who comes in -----------------------------------------------------------

for path in / /version /api/2.0/mlflow/experiments/get?experiment_id=0 /api/2.0/mlflow-artifacts/artifacts /graphql; do
  status 401 "$url$path"
done
status 401 --json '{"name": "nobody"}' "$api/experiments/create"
status 401 --upload-file "$certificate" "$files/nobody.txt"
status 401 --config <(printf 'user = "admin:not-the-password"\n') "$api/experiments/get?experiment_id=0"
as_user 200 "$api/experiments/get?experiment_id=0"

# Whom a name leads here that is not the server's own (DNS rebinding), and a stranger's page.
as_user 403 --header 'Host: attacker.example.net' "$api/experiments/get?experiment_id=0"
as_user 403 --header 'Origin: https://attacker.example.net' --json '{"name": "theirs"}' "$api/experiments/create"
as_user 200 --header "Origin: $url" --json '{"max_results": 1}' "$api/experiments/search"

# Nothing is served by plain HTTP, and no login is asked for there.
for path in / "/api/2.0/mlflow/experiments/get?experiment_id=0"; do
  found=$("${curl[@]}" --output /dev/null --write-out '%{http_code} %{redirect_url}' "http://$name$path")
  [[ $found == "301 $url$path" ]] || fail "http://$name$path: $found"
done

# The certificate is what tells this server from another one.
if curl --silent --max-time 20 --resolve "$name:443:$address" --output /dev/null "$url/health"; then
  fail "a client that does not have the certificate trusts the server"
fi

# --- experiments ------------------------------------------------------------

post experiments/create "{\"name\": \"rest-$again\"}"
experiment=$(value .experiment_id)
get experiments/get "experiment_id=$experiment"
holds ".experiment.name == \"rest-$again\" and .experiment.lifecycle_stage == \"active\""
get experiments/get-by-name "experiment_name=rest-$again"
holds ".experiment.experiment_id == \"$experiment\""
post experiments/set-experiment-tag "{\"experiment_id\": \"$experiment\", \"key\": \"team\", \"value\": \"grün\"}"
post experiments/search "{\"max_results\": 10, \"filter\": \"name = 'rest-$again' and tags.team = 'grün'\"}"
holds ".experiments | map(.experiment_id) == [\"$experiment\"]"
as_user 400 --json "{\"name\": \"rest-$again\"}" "$api/experiments/create"
as_user 400 --json '{"name": ' "$api/experiments/create"
as_user 404 "$api/experiments/get?experiment_id=987654321"

# --- runs -------------------------------------------------------------------

now=$(date +%s%3N)
run() {
  post runs/create "{\"experiment_id\": \"$experiment\", \"start_time\": $now, \"run_name\": \"$1\", \"tags\": $2}"
  value .run.info.run_id
}
parent=$(run parent '[]')
child=$(run child "[{\"key\": \"mlflow.parentRunId\", \"value\": \"$parent\"}]")

post runs/log-parameter "{\"run_id\": \"$child\", \"key\": \"depth\", \"value\": \"3\"}"
for step in 1 2 3; do
  post runs/log-metric "{\"run_id\": \"$child\", \"key\": \"loss\", \"value\": 0.$step, \"timestamp\": $now, \"step\": $step}"
done
post runs/log-batch "$(jq --null-input --compact-output --arg run "$child" --argjson now "$now" '{run_id: $run,
  metrics: [range(990) | {key: "many", value: (. / 8), timestamp: $now, step: .}], params: [{key: "width", value: "2"}],
  tags: [{key: "note", value: "a \"b\" ü"}]}')"
post runs/set-tag "{\"run_id\": \"$child\", \"key\": \"kind\", \"value\": \"test\"}"
post runs/log-inputs "{\"run_id\": \"$child\", \"datasets\": [{\"tags\": [{\"key\": \"mlflow.data.context\", \"value\": \"training\"}],
  \"dataset\": {\"name\": \"houses\", \"digest\": \"d1\", \"source_type\": \"http\", \"source\": \"{}\"}}]}"
post runs/update "{\"run_id\": \"$child\", \"status\": \"FINISHED\", \"end_time\": $((now + 1000))}"
as_user 400 --json "{\"run_id\": \"$child\", \"key\": \"depth\", \"value\": \"4\"}" "$api/runs/log-parameter"

get runs/get "run_id=$child"
holds '.run.info.status == "FINISHED"'
holds '.run.data.params | map({key, value}) | from_entries == {"depth": "3", "width": "2"}'
holds '.run.data.metrics | map({key, value}) | from_entries == {"loss": 0.3, "many": 123.625}'
holds ".run.data.tags | map({key, value}) | from_entries
  | .note == \"a \\\"b\\\" ü\" and .kind == \"test\" and .[\"mlflow.parentRunId\"] == \"$parent\""
holds '.run.inputs.dataset_inputs | map(.dataset.name) == ["houses"]'
get metrics/get-history "run_id=$child" metric_key=loss
holds '.metrics | map(.value) | sort == [0.1, 0.2, 0.3]'
get metrics/get-history "run_id=$child" metric_key=many max_results=600
holds '(.metrics | length) == 600'
get metrics/get-history "run_id=$child" metric_key=many max_results=600 "page_token=$(value .next_page_token)"
holds '(.metrics | length) == 390 and (.next_page_token // "") == ""'

search="{\"experiment_ids\": [\"$experiment\"], \"filter\": \"tags.\`mlflow.parentRunId\` = '$parent' and metrics.loss > 0.2\"}"
post runs/search "$search"
holds ".runs | map(.info.run_id) == [\"$child\"]"
post runs/search "{\"experiment_ids\": [\"$experiment\"], \"max_results\": 1, \"order_by\": [\"attributes.run_name ASC\"]}"
holds ".runs | map(.info.run_id) == [\"$child\"]"
token=$(value .next_page_token)
post runs/search "{\"experiment_ids\": [\"$experiment\"], \"max_results\": 1, \"order_by\": [\"attributes.run_name ASC\"],
  \"page_token\": \"$token\"}"
holds ".runs | map(.info.run_id) == [\"$parent\"]"

post runs/delete "{\"run_id\": \"$child\"}"
post runs/search "$search"
holds '(.runs // []) == []'
post runs/restore "{\"run_id\": \"$child\"}"
post runs/search "$search"
holds ".runs | map(.info.run_id) == [\"$child\"]"

# --- artifacts --------------------------------------------------------------

head -c 5000000 /dev/urandom >"$folder/up.bin"
: >"$folder/empty"
root=$files/$experiment/$child/artifacts
as_user 200 --upload-file "$folder/up.bin" "$root/a%20folder/gr%C3%B6%C3%9Fe%20%26%20%2B.bin"
# Of a length that nobody tells before the end.
as_user 200 --upload-file - --header 'Transfer-Encoding: chunked' "$root/chunked.bin" <"$folder/up.bin"
as_user 200 --upload-file "$folder/empty" "$root/empty"
get artifacts/list "run_id=$child"
holds '.files | map(.path) | sort == ["a folder", "chunked.bin", "empty"]'
get artifacts/list "run_id=$child" "path=a folder"
holds '.files == [{"path": "a folder/größe & +.bin", "is_dir": false, "file_size": 5000000}]'
as_user 200 "$root/a%20folder/gr%C3%B6%C3%9Fe%20%26%20%2B.bin"
cmp "$folder/answer" "$folder/up.bin"
as_user 200 "$root/chunked.bin"
cmp "$folder/answer" "$folder/up.bin"
as_user 200 "$root/empty"
cmp "$folder/answer" "$folder/empty"
# The way that the web page takes.
as_user 200 --get --data-urlencode 'path=a folder/größe & +.bin' --data-urlencode "run_uuid=$child" "$url/get-artifact"
cmp "$folder/answer" "$folder/up.bin"
as_user 200 --request DELETE "$root/chunked.bin"
get artifacts/list "run_id=$child"
holds '.files | map(.path) | sort == ["a folder", "empty"]'
# MLflow says 500 of an object that S3 does not have.
as_user '404|500' "$root/chunked.bin"
as_user 400 --path-as-is "$files/%2e%2e/%2e%2e/secret"

# --- models -----------------------------------------------------------------

model=rest-$again
post registered-models/create "{\"name\": \"$model\"}"
for version in 1 2; do
  post model-versions/create "{\"name\": \"$model\", \"source\": \"mlflow-artifacts:/$experiment/$child/artifacts/a folder\",
    \"run_id\": \"$child\"}"
  holds ".model_version.version == \"$version\""
done
post registered-models/alias "{\"name\": \"$model\", \"alias\": \"champion\", \"version\": \"1\"}"
post registered-models/alias "{\"name\": \"$model\", \"alias\": \"champion\", \"version\": \"2\"}"
get registered-models/alias "name=$model" alias=champion
holds '.model_version.version == "2"'
get model-versions/search "filter=name = '$model'" 'order_by=version_number DESC'
holds '.model_versions | map(.version) == ["2", "1"]'
as_user 200 --request DELETE --json "{\"name\": \"$model\"}" "$api/registered-models/delete"
as_user 404 --get --data-urlencode "name=$model" "$api/registered-models/get"

# --- traces -----------------------------------------------------------------

trace=tr-$(printf '%032x' "$again")
api3=$url/api/3.0/mlflow
as_user 200 --json "{\"trace\": {\"trace_info\": {\"trace_id\": \"$trace\", \"state\": \"OK\",
  \"request_time\": \"$(date --utc +%Y-%m-%dT%H:%M:%S.000Z)\", \"execution_duration\": \"0.250s\", \"tags\": {\"kind\": \"rest\"},
  \"trace_location\": {\"type\": \"MLFLOW_EXPERIMENT\", \"mlflow_experiment\": {\"experiment_id\": \"$experiment\"}}}}}" "$api3/traces"
as_user 200 "$api3/traces/$trace"
holds '.trace.trace_info.state == "OK" and .trace.trace_info.tags.kind == "rest"'
as_user 200 --json "{\"filter\": \"tags.kind = 'rest'\", \"locations\": [{\"type\": \"MLFLOW_EXPERIMENT\",
  \"mlflow_experiment\": {\"experiment_id\": \"$experiment\"}}]}" "$api3/traces/search"
holds ".traces | map(.trace_id) == [\"$trace\"]"

# --- the end of the experiment, and back ------------------------------------

post experiments/delete "{\"experiment_id\": \"$experiment\"}"
get experiments/get "experiment_id=$experiment"
holds '.experiment.lifecycle_stage == "deleted"'
as_user 400 --json "{\"experiment_id\": \"$experiment\"}" "$api/runs/create"
post experiments/restore "{\"experiment_id\": \"$experiment\"}"
get runs/get "run_id=$child"
holds '.run.info.lifecycle_stage == "active"'
post experiments/delete "{\"experiment_id\": \"$experiment\"}"
