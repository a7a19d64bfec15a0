from configparser import ConfigParser
from pathlib import Path
from tempfile import TemporaryDirectory

from setuptools import find_packages, setup

config = ConfigParser()
config.read("settings.ini", encoding="utf-8")
cfg = config["DEFAULT"]
build_dir = TemporaryDirectory()  # a `build/` in the checkout would add modules removed since
pythons = range(int(cfg["min_python"].split(".")[1]), 14)

setup(
    name=cfg["lib_name"],
    version=cfg["version"],
    description=cfg["description"],
    long_description=Path("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=cfg["author"],
    keywords=cfg["keywords"].split(),
    url=cfg["git_url"],
    project_urls={
        "Documentation": cfg["doc_host"] + cfg["doc_baseurl"],
        "Source": cfg["git_url"],
        "Issues": cfg["git_url"] + "/issues",
        "Paper": "https://arxiv.org/abs/2109.10852",
    },
    license="Apache-2.0",
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Intended Audience :: Education",
        "Intended Audience :: Science/Research",
        "Operating System :: OS Independent",
        "Programming Language :: Python :: 3",
        *(f"Programming Language :: Python :: 3.{minor}" for minor in pythons),
        "Topic :: Scientific/Engineering :: Artificial Intelligence",
        "Topic :: Scientific/Engineering :: Image Recognition",
        "Typing :: Typed",
    ],
    python_requires=f">={cfg['min_python']}",
    packages=find_packages(include=["pix2seq", "pix2seq.*"]),
    package_data={
        "pix2seq": ["py.typed", "step.cpp", "service/serve.py", "glyphs/*", "photos/*"]
        + [f"weights/**/*.{kind}" for kind in ("safetensors", "json", "md")],
    },
    install_requires=cfg["requirements"].split(),
    extras_require={
        name: cfg[f"{name}_requirements"].split() for name in ("dev", "export", "bench", "video")
    },
    entry_points={
        "console_scripts": cfg["console_scripts"].split(),
        "nbdev": [f"{cfg['lib_name']}={cfg['lib_path']}._modidx:d"],
    },
    options={"build": {"build_base": build_dir.name}},
    zip_safe=False,
)
