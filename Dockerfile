# docker build --tag pixelq .
# mkdir -p runs
# docker run --rm --user "$(id -u)" --volume "$PWD/runs:/runs" pixelq train --env ALE/Pong-v5 --out /runs/pong
FROM python:3.11-slim

# PyTorch for CPUs; --build-arg TORCH_INDEX= takes the one with CUDA, for docker run --gpus all
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu

WORKDIR /pixelq
COPY constraints.txt pyproject.toml README.md LICENSE ./
COPY agents agents
COPY envs envs
COPY networks networks
COPY scripts scripts
RUN PIP_EXTRA_INDEX_URL=$TORCH_INDEX pip install --no-cache-dir --constraint constraints.txt '.[report,tensorboard,hub]'

RUN useradd --create-home player && mkdir /runs && chown player /runs
USER player
WORKDIR /home/player
VOLUME /runs
ENTRYPOINT ["pixelq"]
CMD ["train", "--env", "ALE/Pong-v5", "--out", "/runs/pong"]
