# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""Each query that GraphQL has, by each kind of caller, on both servers."""

from __future__ import annotations

import pytest
from compare import CALLERS, Found, tally

INFO = "info { runId runUuid experimentId status artifactUri lifecycleStage }"
RUN = f"run {{ {INFO} data {{ params {{ key value }} metrics {{ key value }} }} }}"
ERROR = "apiError { code message helpUrl }"
# By MLflow's own names for them; what each is told of the things of a side.
QUERIES = {
    "test": lambda it: 'query { test(inputString: "größe 猫") { output } }',
    "testMutation": lambda it: 'mutation { testMutation(inputString: "x") { output } }',
    "mlflow_get_experiment": lambda it: f'query {{ mlflowGetExperiment(input: {{experimentId: "{it.experiment}"}})'
    f" {{ experiment {{ experimentId name artifactLocation lifecycleStage tags {{ key value }} }} {ERROR} }} }}",
    "mlflow_get_run": lambda it: f'query {{ mlflowGetRun(input: {{runId: "{it.run}"}}) {{ {RUN} {ERROR} }} }}',
    "mlflow_get_metric_history_bulk_interval": lambda it: "query { mlflowGetMetricHistoryBulkInterval(input: "
    f'{{runIds: ["{it.run}"], metricKey: "loss", maxResults: 5}}) {{ metrics {{ key value step timestamp runId }} {ERROR} }} }}',
    "mlflow_list_artifacts": lambda it: f'query {{ mlflowListArtifacts(input: {{runId: "{it.run}"}})'
    f" {{ rootUri files {{ path isDir fileSize }} {ERROR} }} }}",
    "mlflow_search_model_versions": lambda it: "query { mlflowSearchModelVersions(input: "
    f"{{filter: \"name = '{it.model}'\"}}) {{ modelVersions {{ name version source status }} nextPageToken {ERROR} }} }}",
    "mlflow_search_datasets": lambda it: f'query {{ mlflowSearchDatasets(input: {{experimentIds: ["{it.experiment}"]}})'
    f" {{ datasetSummaries {{ name digest context }} {ERROR} }} }}",
    "mlflow_search_runs": lambda it: f'query {{ mlflowSearchRuns(input: {{experimentIds: ["{it.experiment}"]}})'
    f" {{ runs {{ info {{ runId experimentId status }} data {{ tags {{ key value }} }} }} {ERROR} }} }}",
}  # fmt: skip
WRONG = {
    "none": "", "broken": "query {", "unknown": "query { nobody }",
    "an id that nobody has": f'query {{ mlflowGetRun(input: {{runId: "x"}}) {{ {RUN} {ERROR} }} }}',
    "a wrong type": f"query {{ mlflowSearchRuns(input: {{experimentIds: 7}}) {{ {ERROR} }} }}",
    "no input": f"query {{ mlflowGetRun {{ {ERROR} }} }}",
    "several at once": "query { a: __typename b: __typename c: __typename }",
    "deep": "query { " + 'mlflowGetRun(input: {runId: "x"}) { run { ' * 40 + "info { runId }" + " } }" * 40 + " }",
    "its own description": "query { __schema { queryType { name } } }",
}  # fmt: skip


def asked(query):
    return "POST", "/graphql", {"query": query}, {}


@pytest.mark.everyday
def test_each_query_is_answered_as_by_mlflow(twins, known):
    assert sorted(QUERIES) == known.graphql, "queries of MLflow's and of this test"
    found = Found()
    for name, query in QUERIES.items():
        for caller in CALLERS:
            tally["queries of GraphQL"] += 1
            found.look(caller, "POST", f"/graphql {name}", twins.ask(lambda side, query=query: asked(query(side.things)), caller))
    for what, query in WRONG.items():
        found.look(what, "POST", "/graphql", twins.ask(lambda side, query=query: asked(query), "admin"))
    found.none()
