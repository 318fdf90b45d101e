"""Claims about the registered model, to run at will."""

import dagster as dg

from fraud_assets.assets.model import fraud_isolation_forest
from fraud_assets.resources.lake import Lake
from fraud_assets.resources.models.registry import ModelRegistry


@dg.asset_check(asset=fraud_isolation_forest)
def signature_matches_contract(
    lake: Lake,
    model_registry: ModelRegistry,
) -> dg.AssetCheckResult:
    """The latest registered version takes exactly the contract's eight features and gives score and decision."""
    version = model_registry.latest_version()
    return dg.AssetCheckResult(
        passed=version is not None and model_registry.signature_matches(version),
        metadata={"model_version": version or "no version is registered"},
    )


MODEL_CHECKS = [signature_matches_contract]
