"""The training objective: mean cross-entropy of the next token, without keeping the logits."""

from jaxtyping import Float
from torch import Tensor

from llmlib.architecture.context import Layout
from llmlib.architecture.encoder_decoder import EncoderDecoder
from llmlib.architecture.transformer import Transformer
from llmlib.core.batch import Batch
from llmlib.training.memory.chunked_loss import cross_entropy_with_z
from llmlib.training.objectives.auxiliary import add_auxiliary

LanguageModel = Transformer | EncoderDecoder


def hidden_states(model: LanguageModel, batch: Batch) -> Float[Tensor, "B T D"]:
    """Return a model's last hidden states where a batch has its targets.

    A decoder takes `documents` into account where they are there, and `prefix_lengths` if its mask
    is that of a prefix decoder.
    """
    if isinstance(model, EncoderDecoder):
        return model.hidden(
            batch["encoder_inputs"], batch["decoder_inputs"], batch["encoder_lengths"]
        )
    sees_prefix = model.config.mask == "prefix"
    layout = Layout(
        prefix_lengths=batch.get("prefix_lengths") if sees_prefix else None,
        documents=batch.get("documents"),
    )
    return model.hidden(batch["inputs"], layout=layout)


def next_token_loss(
    model: LanguageModel, batch: Batch, *, z_weight: float = 0.0
) -> Float[Tensor, ""]:
    r"""Return the mean negative log-likelihood of a batch's targets, in nats.

    $L = -\tfrac1n \sum_{b,t} \log p(y_{b,t} \mid x_{b,\le t})$ over the n targets that count. While
    a model with experts trains, its load-balancing loss is added by `add_auxiliary`; so is the
    z-loss, `z_weight` times the mean of $\log^2 Z$.

    References:
        Zhao et al. (2023), A Survey of Large Language Models, section 4.2.3, equation 4.
    """
    weight = z_weight if model.training else 0.0
    hidden = hidden_states(model, batch)
    loss, z_loss = cross_entropy_with_z(hidden, model.output_weight, batch["targets"], weight)
    if weight:
        loss = add_auxiliary(loss - z_loss, z_loss)
    if isinstance(model, EncoderDecoder) or not (model.training and model.config.n_experts):
        return loss
    balance = model.balance_loss()
    return loss if balance is None else add_auxiliary(loss, balance)
