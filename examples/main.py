# Copyright: (c) 2026, the mlops.mlflow_aws contributors
# GNU General Public License v3.0 or later (see LICENSE)
"""
Train a classifier of handwritten digits and keep everything about it in MLflow.

Three settings of a small neural network are trained on the data set that scikit-learn
ships. Each is a run with its parameters and a metric per epoch; the best one's model is
logged with its signature, registered, and given the alias "champion"; at the end the
model is loaded back by that alias, as an application would.

Where the server is and who you are comes from the environment:

    source .quickstart/client.env    # or export MLFLOW_TRACKING_URI, …_USERNAME, …_PASSWORD
    pip install -r examples/requirements.txt
    python examples/main.py
"""

import os
import sys

import mlflow
import numpy as np
import sklearn
import skops
from matplotlib.figure import Figure
from mlflow.models import infer_signature
from sklearn.datasets import load_digits
from sklearn.metrics import ConfusionMatrixDisplay, log_loss
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier

EXPERIMENT = "handwritten-digits"
MODEL = "digit-classifier"
ALIAS = "champion"
EPOCHS = 15
SEED = 7

# One run for each.
SETTINGS = [
    {"hidden_units": 16, "learning_rate": 0.001, "weight_decay": 0.0001},
    {"hidden_units": 64, "learning_rate": 0.003, "weight_decay": 0.0001},
    {"hidden_units": 64, "learning_rate": 0.03, "weight_decay": 0.01},
]


def load_data():
    """The images as numbers from 0 to 1, in three parts: to train, to choose by, to report."""
    images, digits = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    x_train, x_rest, y_train, y_rest = train_test_split(
        images, digits, test_size=0.4, random_state=SEED, stratify=digits
    )
    x_valid, x_test, y_valid, y_test = train_test_split(
        x_rest, y_rest, test_size=0.5, random_state=SEED, stratify=y_rest
    )
    return (x_train, y_train), (x_valid, y_valid), (x_test, y_test)


def train(setting, training, validation):
    """Train one network in a run of its own; return its run, its model and its curve."""
    model = MLPClassifier(
        hidden_layer_sizes=(setting["hidden_units"],),
        learning_rate_init=setting["learning_rate"],
        alpha=setting["weight_decay"],
        batch_size=64,
        random_state=SEED,
    )
    name = f"{setting['hidden_units']}-units-rate-{setting['learning_rate']}"
    curve = []
    with mlflow.start_run(run_name=name, nested=True) as run:
        mlflow.log_params({**setting, "epochs": EPOCHS, "batch_size": 64, "seed": SEED})
        for epoch in range(1, EPOCHS + 1):
            model.partial_fit(*training, classes=np.arange(10))
            metrics = {
                "train_loss": log_loss(training[1], model.predict_proba(training[0])),
                "valid_loss": log_loss(validation[1], model.predict_proba(validation[0])),
                "valid_accuracy": model.score(*validation),
            }
            mlflow.log_metrics(metrics, step=epoch)
            curve.append(metrics)
    return run, model, curve


def plot_curves(curves):
    """Loss of every run by epoch: solid on the training data, dashed on the validation data."""
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    for number, (name, curve) in enumerate(curves.items()):
        epochs = range(1, len(curve) + 1)
        axes.plot(epochs, [point["train_loss"] for point in curve], color=f"C{number}", label=name)
        axes.plot(epochs, [point["valid_loss"] for point in curve], color=f"C{number}", linestyle="--")
    axes.set(xlabel="epoch", ylabel="log loss (dashed: validation)", yscale="log", title="Learning curves")
    axes.legend()
    return figure


def plot_confusion(model, test):
    figure = Figure(figsize=(6, 6), layout="constrained")
    ConfusionMatrixDisplay.from_estimator(model, *test, ax=figure.subplots(), colorbar=False, cmap="Blues")
    return figure


def main():
    if not os.environ.get("MLFLOW_TRACKING_URI"):
        sys.exit("MLFLOW_TRACKING_URI is not set: source the client.env of your server first.")
    print(f"MLflow server   {mlflow.get_tracking_uri()}")
    mlflow.set_experiment(EXPERIMENT)
    training, validation, test = load_data()

    with mlflow.start_run(run_name="compare-settings") as parent:
        mlflow.log_params({"settings": len(SETTINGS), "images": len(training[1]) + len(validation[1]) + len(test[1])})
        results, curves = [], {}
        for setting in SETTINGS:
            run, model, curve = train(setting, training, validation)
            results.append((curve[-1]["valid_accuracy"], run, model))
            curves[run.info.run_name] = curve
            print(f"  run {run.info.run_name:<22} validation accuracy {curve[-1]['valid_accuracy']:.3f}")
        mlflow.log_figure(plot_curves(curves), "plots/learning_curves.png")

        _, best_run, best_model = max(results, key=lambda result: result[0])
        accuracy = best_model.score(*test)
        mlflow.log_metric("test_accuracy", accuracy)

    # The model belongs to the run that trained it.
    with mlflow.start_run(run_id=best_run.info.run_id):
        mlflow.log_metric("test_accuracy", accuracy)
        mlflow.log_figure(plot_confusion(best_model, test), "plots/confusion_matrix.png")
        example = test[0][:3]
        logged = mlflow.sklearn.log_model(
            best_model,
            name="model",
            signature=infer_signature(example, best_model.predict(example)),
            input_example=example,
            registered_model_name=MODEL,
            # The file format loads only types that are named; this one is the trained network's own.
            skops_trusted_types=["sklearn.neural_network._stochastic_optimizers.AdamOptimizer"],
            # Named here, so that MLflow needs not load the model in another process to find out.
            pip_requirements=[f"{module.__name__}=={module.__version__}" for module in (mlflow, np, skops)]
            + [f"scikit-learn=={sklearn.__version__}"],
        )
    client = mlflow.MlflowClient()
    client.set_registered_model_alias(MODEL, ALIAS, logged.registered_model_version)

    champion = mlflow.pyfunc.load_model(f"models:/{MODEL}@{ALIAS}")
    right = (champion.predict(test[0]) == test[1]).mean()
    print(f"  model {MODEL} version {logged.registered_model_version}, alias {ALIAS}: best of {len(SETTINGS)} runs")
    print(f"  loaded back from the server: test accuracy {right:.3f}")
    print(f"Experiment      {mlflow.get_tracking_uri()}/#/experiments/{parent.info.experiment_id}")


if __name__ == "__main__":
    main()
