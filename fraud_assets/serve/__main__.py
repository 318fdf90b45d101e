"""The process of a service, as `fraud-assets serve` starts it: without Dagster, which the command line imports."""

import argparse
import sys

from fraud_assets.errors import FraudAssetsError
from fraud_assets.serve.server import Server
from fraud_assets.settings import load_settings

parser = argparse.ArgumentParser()
parser.add_argument("--host", required=True)
parser.add_argument("--port", type=int, required=True)
parser.add_argument("--land", action="store_true")
options = parser.parse_args()
try:
    Server(load_settings(), options.host, options.port, options.land).run()
except FraudAssetsError as error:
    sys.exit(f"Error: {error}")
