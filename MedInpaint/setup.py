"""The packages of a wheel: pyproject.toml alone cannot name a folder that lies beside them."""

from setuptools import find_packages, setup

setup(packages=[*find_packages(include=["MedInpaintLib*"]), "MedInpaintLib.Resources"])
