# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""The only room where what MLflow, uvicorn and SQLAlchemy keep to themselves is touched: ground.py has how."""
