# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""MLflow's jobs: who runs them, one of them, and the code of users in them."""
