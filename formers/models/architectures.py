"""The architectures that families are made of, by name."""

from __future__ import annotations

from formers.models.base import PreTrainedModel
from formers.models.causal import (
    DecoderForCausalLM,
    DecoderForQuestionAnswering,
    DecoderForSequenceClassification,
    DecoderForTokenClassification,
    DecoderWithHead,
)
from formers.models.decoder import DecoderModel
from formers.models.encoder import EncoderModel
from formers.models.encoder_heads import (
    Discriminator,
    EncoderWithHead,
    ForCausalLM,
    ForMaskedLM,
    ForMultipleChoice,
    ForNextSentencePrediction,
    ForPreTraining,
    ForQuestionAnswering,
    ForSentenceOrderPreTraining,
    ForSequenceClassification,
    ForTokenClassification,
)
from formers.models.joined import EncoderDecoder, JoinedModel
from formers.models.seq2seq import Seq2SeqModel
from formers.models.seq2seq_heads import (
    Seq2SeqForConditionalGeneration,
    Seq2SeqForQuestionAnswering,
    Seq2SeqForSequenceClassification,
    Seq2SeqWithHead,
)
from formers.models.speech import (
    SpeechEncoder,
    SpeechForClassification,
    SpeechForConditionalGeneration,
    SpeechSeq2Seq,
)

# What stands on a bare model, and is made with its class.
WITH_HEAD = (
    EncoderWithHead,
    DecoderWithHead,
    DecoderForCausalLM,
    Seq2SeqForConditionalGeneration,
    Seq2SeqWithHead,
    SpeechForClassification,
)
# The architecture of each head's name; a family's definition may name another.
ARCHITECTURES: dict[str, type[PreTrainedModel]] = {
    "Model": EncoderModel,
    "Decoder": DecoderModel,
    "DecoderForCausalLM": DecoderForCausalLM,
    "DecoderForQuestionAnswering": DecoderForQuestionAnswering,
    "DecoderForSequenceClassification": DecoderForSequenceClassification,
    "DecoderForTokenClassification": DecoderForTokenClassification,
    "DecoderModel": DecoderModel,
    "Discriminator": Discriminator,
    "EncoderDecoder": EncoderDecoder,
    "EncoderModel": EncoderModel,
    "ForCausalLM": ForCausalLM,
    "ForMaskedLM": ForMaskedLM,
    "ForMultipleChoice": ForMultipleChoice,
    "ForNextSentencePrediction": ForNextSentencePrediction,
    "ForPreTraining": ForPreTraining,
    "ForQuestionAnswering": ForQuestionAnswering,
    "ForSentenceOrderPreTraining": ForSentenceOrderPreTraining,
    "ForSequenceClassification": ForSequenceClassification,
    "ForTokenClassification": ForTokenClassification,
    "Joined": JoinedModel,
    "LMHeadModel": ForCausalLM,
    "Seq2Seq": Seq2SeqModel,
    "Seq2SeqForConditionalGeneration": Seq2SeqForConditionalGeneration,
    "SpeechEncoder": SpeechEncoder,
    "SpeechForClassification": SpeechForClassification,
    "SpeechForConditionalGeneration": SpeechForConditionalGeneration,
    "SpeechSeq2Seq": SpeechSeq2Seq,
    "Seq2SeqForQuestionAnswering": Seq2SeqForQuestionAnswering,
    "Seq2SeqForSequenceClassification": Seq2SeqForSequenceClassification,
}
