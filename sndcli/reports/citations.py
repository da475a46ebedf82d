"""What to cite: the papers of attacks, defenses, data sets and code, as BibTeX."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from sndcli import __version__


@dataclass(frozen=True)
class Paper:
    """A published work.

    Attributes:
        key: of its BibTeX entry.
        title, year: as published.
        authors: `First Last`, separated by ``and``.
        venue: of the proceedings or the journal; empty for what is on arXiv alone.
        arxiv: its number there; empty where it has none.
        article: whether `venue` is a journal.
        url: where it is, for what has no number on arXiv.
    """

    key: str
    title: str
    authors: str
    year: int
    venue: str = ""
    arxiv: str = ""
    article: bool = False
    url: str = ""

    @property
    def bibtex(self) -> str:
        """Its entry."""
        kind = "article" if self.article else "inproceedings" if self.venue else "misc"
        fields = {
            "title": f"{{{self.title}}}", "author": self.authors, "year": str(self.year),
            **({"journal" if self.article else "booktitle": self.venue} if self.venue else {}),
            **({"eprint": self.arxiv, "archivePrefix": "arXiv"} if self.arxiv else {}),
            **({"url": self.url} if self.url else {}),
        }  # fmt: skip
        return f"@{kind}{{{self.key},\n" + "".join(f"  {name} = {{{text}}},\n" for name, text in fields.items()) + "}"


SOFTWARE = Paper(
    "sndcli", "sndcli: query-based black-box attacks against randomised defenses", "{the sndcli authors}", 2026
)  # title and authors as in CITATION.cff
SIMBA = Paper(
    "guo2019simba", "Simple Black-box Adversarial Attacks",
    "Chuan Guo and Jacob R. Gardner and Yurong You and Andrew Gordon Wilson and Kilian Q. Weinberger", 2019,
    "International Conference on Machine Learning (ICML)", "1905.07121",
)  # fmt: skip
HSJA = Paper(
    "chen2020hopskipjump", "HopSkipJumpAttack: A Query-Efficient Decision-Based Attack",
    "Jianbo Chen and Michael I. Jordan and Martin J. Wainwright", 2020,
    "IEEE Symposium on Security and Privacy", "1904.02144",
)  # fmt: skip
PNI = Paper(
    "he2019pni",
    "Parametric Noise Injection: Trainable Randomness to Improve Deep Neural Network Robustness against Adversarial "
    "Attack",
    "Zhezhi He and Adnan Siraj Rakin and Deliang Fan", 2019,
    "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)", "1811.09310",
)  # fmt: skip

NES = Paper(
    "ilyas2018nes", "Black-box Adversarial Attacks with Limited Queries and Information",
    "Andrew Ilyas and Logan Engstrom and Anish Athalye and Jessy Lin", 2018,
    "International Conference on Machine Learning (ICML)", "1804.08598",
)  # fmt: skip

OURS = ("hsja-na", "nes-na", "null")  # attacks that no paper describes; two change an attack of `ATTACKS`
ATTACKS: Mapping[str, Paper] = {
    "hsja": HSJA,
    "hsja-na": HSJA,
    "popskipjump": Paper(
        "simongabriel2021popskipjump", "PopSkipJump: Decision-Based Attack for Probabilistic Classifiers",
        "Carl-Johann Simon-Gabriel and Noman Ahmed Sheikh and Andreas Krause", 2021,
        "International Conference on Machine Learning (ICML)", "2106.07445",
    ),
    "ba": Paper(
        "brendel2018boundary",
        "Decision-Based Adversarial Attacks: Reliable Attacks Against Black-Box Machine Learning Models",
        "Wieland Brendel and Jonas Rauber and Matthias Bethge", 2018,
        "International Conference on Learning Representations (ICLR)", "1712.04248",
    ),
    "sign-opt": Paper(
        "cheng2020signopt", "Sign-OPT: A Query-Efficient Hard-label Adversarial Attack",
        "Minhao Cheng and Simranjit Singh and Patrick H. Chen and Pin-Yu Chen and Sijia Liu and Cho-Jui Hsieh", 2020,
        "International Conference on Learning Representations (ICLR)", "1909.10773",
    ),
    "geoda": Paper(
        "rahmati2020geoda", "GeoDA: A Geometric Framework for Black-box Adversarial Attacks",
        "Ali Rahmati and Seyed-Mohsen Moosavi-Dezfooli and Pascal Frossard and Huaiyu Dai", 2020,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)", "2003.06468",
    ),
    "cgba": Paper(
        "reza2023cgba", "CGBA: Curvature-aware Geometric Black-box Attack",
        "Md Farhamdur Reza and Ali Rahmati and Tianfu Wu and Huaiyu Dai", 2023,
        "IEEE/CVF International Conference on Computer Vision (ICCV)", "2308.03163",
    ),
    "surfree": Paper(
        "maho2021surfree", "SurFree: A Fast Surrogate-free Black-box Attack",
        "Thibault Maho and Teddy Furon and Erwan Le Merrer", 2021,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)", "2011.12807",
    ),
    "ars-opt": Paper(
        "xu2026arsopt",
        "Improving the Convergence Rate of Ray Search Optimization for Query-Efficient Hard-Label Attacks",
        "Xinjie Xu and Shuyu Cheng and Dongwei Xu and Qi Xuan and Chen Ma", 2026,
        "AAAI Conference on Artificial Intelligence", "2512.21241",
    ),
    "transfer": Paper(
        "dong2018momentum", "Boosting Adversarial Attacks with Momentum",
        "Yinpeng Dong and Fangzhou Liao and Tianyu Pang and Hang Su and Jun Zhu and Xiaolin Hu and Jianguo Li", 2018,
        "IEEE/CVF Conference on Computer Vision and Pattern Recognition (CVPR)", "1710.06081",
    ),
    "rays": Paper(
        "chen2020rays", "RayS: A Ray Searching Method for Hard-label Adversarial Attack",
        "Jinghui Chen and Quanquan Gu", 2020,
        "ACM SIGKDD International Conference on Knowledge Discovery and Data Mining (KDD)", "2006.12792",
    ),
    "simba": SIMBA,
    "simba-dct": SIMBA,
    "bandit-td": Paper(
        "ilyas2019bandits", "Prior Convictions: Black-Box Adversarial Attacks with Bandits and Priors",
        "Andrew Ilyas and Logan Engstrom and Aleksander Madry", 2019,
        "International Conference on Learning Representations (ICLR)", "1807.07978",
    ),
    "nes": NES,
    "nes-na": NES,
    "nattack": Paper(
        "li2019nattack",
        "NATTACK: Learning the Distributions of Adversarial Examples for an Improved Black-Box Attack on Deep Neural "
        "Networks",
        "Yandong Li and Lijun Li and Liqiang Wang and Tong Zhang and Boqing Gong", 2019,
        "International Conference on Machine Learning (ICML)", "1905.00441",
    ),
    "subspace": Paper(
        "guo2019subspace", "Subspace Attack: Exploiting Promising Subspaces for Query-Efficient Black-box Attacks",
        "Yiwen Guo and Ziang Yan and Changshui Zhang", 2019,
        "Advances in Neural Information Processing Systems (NeurIPS)", "1906.04392",
    ),
    "square": Paper(
        "andriushchenko2020square", "Square Attack: a query-efficient black-box adversarial attack via random search",
        "Maksym Andriushchenko and Francesco Croce and Nicolas Flammarion and Matthias Hein", 2020,
        "European Conference on Computer Vision (ECCV)", "1912.00049",
    ),
}  # fmt: skip
SND = Paper(
    "byun2021small",
    "Small Input Noise is Enough to Defend Against Query-based Black-box Attacks",
    "Junyoung Byun and Hyojun Go and Changick Kim",
    2021,
    "",
    "2101.04829",
)
AAA = Paper(
    "chen2022adversarial",
    "Adversarial Attack on Attackers: Post-Process to Mitigate Black-Box Score-Based Query Attacks",
    "Sizhe Chen and Zhehao Huang and Qinghua Tao and Yingwen Wu and Cihang Xie and Xiaolin Huang",
    2022,
    "Advances in Neural Information Processing Systems (NeurIPS)",
    "2205.12134",
)
UNCITED = (
    "aug",
    "set",
    "rls",
    "bits",
    "jpeg",
)  # defenses that no paper describes as they are, or none that has an entry yet
DEFENSES: Mapping[str, Paper] = {
    "snd": SND,
    "noise": SND,
    "rnp": Paper(
        "xie2018mitigating", "Mitigating Adversarial Effects Through Randomization",
        "Cihang Xie and Jianyu Wang and Zhishuai Zhang and Zhou Ren and Alan Yuille", 2018,
        "International Conference on Learning Representations (ICLR)", "1711.01991",
    ),
    "rse": Paper(
        "liu2018rse", "Towards Robust Neural Networks via Random Self-ensemble",
        "Xuanqing Liu and Minhao Cheng and Huan Zhang and Cho-Jui Hsieh", 2018,
        "European Conference on Computer Vision (ECCV)", "1712.00673",
    ),
    "pni": PNI,
    "pni-shared": PNI,
    "rfd": Paper(
        "nguyen2024rfd",
        "Understanding the Robustness of Randomized Feature Defense Against Query-Based Adversarial Attacks",
        "Quang H. Nguyen and Yingjie Lao and Tung Pham and Kok-Seng Wong and Khoa D. Doan", 2024,
        "International Conference on Learning Representations (ICLR)", "2310.00567",
    ),
    "smooth": Paper(
        "cohen2019certified", "Certified Adversarial Robustness via Randomized Smoothing",
        "Jeremy Cohen and Elan Rosenfeld and J. Zico Kolter", 2019,
        "International Conference on Machine Learning (ICML)", "1902.02918",
    ),
    "gate": Paper(
        "aithal2022boundary", "Boundary Defense Against Black-box Adversarial Attacks",
        "Manjushree B. Aithal and Xiaohua Li", 2022, "", "2201.13444",
    ),
    "logit": Paper(
        "aithal2022mitigating", "Mitigating Black-Box Adversarial Attacks via Output Noise Perturbation",
        "Manjushree B. Aithal and Xiaohua Li", 2022, "IEEE Access", article=True,
        url="https://doi.org/10.1109/ACCESS.2022.3146198",
    ),
    "blacklight": Paper(
        "li2022blacklight",
        "Blacklight: Scalable Defense for Neural Networks against Query-Based Black-Box Attacks",
        "Huiying Li and Shawn Shan and Emily Wenger and Jiayun Zhang and Haitao Zheng and Ben Y. Zhao", 2022,
        "USENIX Security Symposium", "2006.14042",
    ),
    "aaa-linear": AAA,
    "aaa-sine": AAA,
}  # fmt: skip
DATASETS: Mapping[str, Paper] = {
    "cifar10": Paper(
        "krizhevsky2009learning", "Learning Multiple Layers of Features from Tiny Images", "Alex Krizhevsky", 2009,
        url="https://www.cs.toronto.edu/~kriz/learning-features-2009-TR.pdf",
    ),
    "imagenet": Paper(
        "russakovsky2015imagenet", "ImageNet Large Scale Visual Recognition Challenge",
        "Olga Russakovsky and Jia Deng and Hao Su and Jonathan Krause and Sanjeev Satheesh and Sean Ma and "
        "Zhiheng Huang and Andrej Karpathy and Aditya Khosla and Michael Bernstein and "
        "Alexander C. Berg and Li Fei-Fei", 2015,
        "International Journal of Computer Vision", "1409.0575", article=True,
    ),
}  # fmt: skip
NETWORKS: Mapping[str, Paper] = {  # by the beginning of an architecture's name
    "resnet": Paper(
        "he2016resnet", "Deep Residual Learning for Image Recognition",
        "Kaiming He and Xiangyu Zhang and Shaoqing Ren and Jian Sun", 2016,
        "IEEE Conference on Computer Vision and Pattern Recognition (CVPR)", "1512.03385",
    ),
    "vgg": Paper(
        "simonyan2015vgg", "Very Deep Convolutional Networks for Large-Scale Image Recognition",
        "Karen Simonyan and Andrew Zisserman", 2015,
        "International Conference on Learning Representations (ICLR)", "1409.1556",
    ),
    "efficientnet": Paper(
        "tan2019efficientnet", "EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks",
        "Mingxing Tan and Quoc V. Le", 2019, "International Conference on Machine Learning (ICML)", "1905.11946",
    ),
}  # fmt: skip
CODE: Mapping[str, Paper] = {  # presets and engines that follow a library
    "foolbox": Paper(
        "rauber2020foolbox",
        "Foolbox Native: Fast adversarial attacks to benchmark the robustness of machine learning models in PyTorch, "
        "TensorFlow, and JAX",
        "Jonas Rauber and Roland Zimmermann and Matthias Bethge and Wieland Brendel", 2020,
        "Journal of Open Source Software", article=True, url="https://doi.org/10.21105/joss.02607",
    ),
    "art": Paper(
        "nicolae2018art", "Adversarial Robustness Toolbox v1.0.0",
        "Maria-Irina Nicolae and Mathieu Sinn and Minh Ngoc Tran and Beat Buesser and Ambrish Rawat and Martin Wistuba "
        "and Valentina Zantedeschi and Nathalie Baracaldo and Bryant Chen and Heiko Ludwig and Ian M. Molloy and "
        "Ben Edwards", 2018, "", "1807.01069",
    ),
    "autoattack": Paper(
        "croce2020autoattack",
        "Reliable evaluation of adversarial robustness with an ensemble of diverse parameter-free attacks",
        "Francesco Croce and Matthias Hein", 2020, "International Conference on Machine Learning (ICML)", "2003.01690",
    ),
}  # fmt: skip


def network(model: str) -> Paper | None:
    """The paper of a network, where its name says which it is: `resnet50@IMAGENET1K_V1`, but not `resnetv2_50@timm`."""
    found = re.match(r"(resnet(?=\d)|vgg(?![a-z])|efficientnet(?=[_-]))", model)
    return NETWORKS[found[1]] if found else None


def software() -> str:
    """The entry of this program, with its version."""
    return SOFTWARE.bibtex.removesuffix("}") + f"  note = {{Version {__version__}}},\n}}"
