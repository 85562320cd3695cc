"""The models of the examples: real ones, made into the files that a broker takes.

    python -m examples.models [NAME ...] [--out DIR]

NAME is embed, classify, score or listen; all of them by default. DIR, by default `build/examples`, gets a repository of
models, `models/NAME/VERSION/`, and for each example what its programs ask and what the plain model answers there,
`NAME.json`. Nothing is downloaded: weights come from Python packages (`requirements-models.txt`), or from a seed.
"""
