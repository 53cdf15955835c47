//! Words that orders to a model are made of, by what they mean, in several languages: what is learnt
//! of `ignore your instructions` then holds for `ignora tus instrucciones`.

use std::sync::LazyLock;

/// What a word does in an order to a model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cue {
    /// ignore, forget, bypass
    Override,
    /// instructions, rules, prompt
    Instruction,
    /// previous, above
    Prior,
    /// reveal, disclose
    Reveal,
    /// system, developer, hidden
    System,
    /// pretend, act as
    Role,
    /// unrestricted, jailbreak
    Free,
    /// restriction, filter, ethics
    Limit,
    /// obey, comply
    Comply,
    /// now, henceforth
    Now,
    /// only, exclusively
    Only,
    /// all, any
    All,
    /// password, confidential
    Secret,
    /// send, upload
    Send,
    /// mode
    Mode,
    /// you, your
    You,
    /// assistant, model
    Assistant,
    /// without, never
    Not,
    /// say, print, repeat
    Say,
}

impl Cue {
    /// Its place in a set of cues.
    pub fn bit(self) -> u32 {
        1 << self as u8
    }
}

/// Lower case, without the accents of Latin letters; `*` ends a stem, other words are whole.
const WORDS: &[(Cue, &str)] = &[
    (
        Cue::Override,
        "ignor* disregard* forget* forgot overrid* overrul* bypass* circumvent* discard* neglect* \
         suspend* abandon* overlook* dismiss* evade* evading supersed* nullif* disabl* deactivat* \
         vergiss vergesst vergessen missacht* ubergeh* umgeh* verwirf verwerfen verwerft uberschreib* deaktivier* aussetz* \
         oubli* contourn* neglige* outrepass* desactiv* abandonn* desobe* meprise* annul* \
         olvid* omit* desestim* elude* eludir pase* descart* anul* abandon* \
         dimentic* trascur* scart* aggir* scavalc* bypassa* disattiv* \
         esquec* desconsider* desprez* descarte* contorn* burl* desativ* \
         negeer* vergeet omzeil* zignoruj* pomin zapomnij игнорир* проигнор* забуд* забыт* обойд* отмен* \
         yoksay* unut* تجاهل* انس* نظرانداز अनदेखा भूल 忽略 忽视 忽視 无视 無視 忘记 忘記 忘れ 绕过 무시*",
    ),
    (
        Cue::Instruction,
        "instruction* guideline* directive* rule rules prompt prompts programming protocol* \
         command commands constraint* orders anweisung* regel* richtlinie* vorgabe* programmierung \
         befehl* instrucci* directric* directiva* regla* reglas normas ordenes programacion indicaciones \
         consigne* regle* directives programmation istruzion* direttiv* regol* regole programmazione linee \
         instruco* diretriz* regra* programacao comandos instructies regels instrukcj* polecen* zasad* \
         инструкц* указани* правил* промпт* talimat* kural* تعليمات* التعليمات موجه قواعد निर्देश* नियम* 指令 指示 规则 規則 提示词 提示詞 \
         プロンプト ルール 지시* 프롬프트 규칙",
    ),
    (
        Cue::Prior,
        "previous* prior above earlier preceding before foregoing aforementioned vorherig* bisherig* \
         obig* fruher* precedent* anterior* previa* previo* arriba precedente precedenti sopra acima \
         vorige eerder poprzedni* wczesniej* предыдущ* выше прежн* onceki yukari* السابق* أعلاه पिछले पूर्व \
         之前 以前 上面 前面 先前 以上 これまで 上記 前の 이전",
    ),
    (
        Cue::Reveal,
        "reveal* disclos* divulg* leak leaks expose* unveil* uncover* display* dump show shows share \
         surface zeig* zeige offenbar* offenleg* verrat* enthull* preisg* anzeigen revele* revelez \
         montr* affich* devoil* divulgu* muestr* mostrar revel* divulg* ensena* exponer mostra* rivel* \
         svel* divulga* mostre exiba exibir revela* toon onthul* pokaz* ujawni* покажи* раскро* раскры* вывед* \
         goster* اكشف اعرض أظهر दिखा* 显示 顯示 透露 展示 泄露 表示 教えて 見せて 공개 보여",
    ),
    (
        Cue::System,
        "system systems developer* admin* root hidden internal* initial* initializ* underlying original* \
         configuration* config setup preamble core system* entwickler* intern* versteckt* ursprung* \
         grundleg* systeme interne* cache* initiale* sistema interno* interna* oculto* inicial* base \
         nascost* iniziale* inizial* originari* oculta* systeem systemow* систем* скрыт* разработчик* \
         sistem* gizli النظام نظام सिस्टम 系统 系統 隐藏 隱藏 システム 開発者 隠され 시스템",
    ),
    (
        Cue::Role,
        "pretend* roleplay* impersonat* persona simulat* imagine act acting behave role character \
         hypothetical* fictional embody tu stell verhalte spiel* agis agir imagin* simul* comport* actua* \
         finge fingir imagina* interpreta* agisci agire fingi immagin* simula* aja agir comporte \
         представь* притвор* ты 扮演 假装 假裝 角色 想像 なりきって 演じ 역할",
    ),
    (
        Cue::Free,
        "unrestricted uncensored unfiltered unlimited unbound jailbreak* jailbroken dan stan unleash* \
         liberat* freed unconstrained unmoderated amoral unethical godmode anything uneingeschrankt* \
         unzensiert* ungefiltert* libre* libere* liber* illimit* debride* sansrestriction irrestrict* \
         senza libero libera* livre livremente ilimitad* неограничен* sinirsiz 无限制 不受限制 越狱 制限のない 自由に",
    ),
    (
        Cue::Limit,
        "restriction* restrict* limitation* limits limit boundar* safeguard* safety filter* censor* \
         ethic* moral* policy policies guardrail* moderation refus* compliance barrier* security \
         einschrank* grenzen beschrank* sicherheit* filtern ethisch* ethik moralisch* limitation* limites \
         garde ethique* morale* securite restricci* limitacion* etic* seguridad barrera* filtros restrizion* \
         limiti limitazion* etich* sicurezza filtri restric* limitac* seguranca огранич* безопасн* этич* фильтр* \
         kisitlama* قيود القيود أمان प्रतिबंध* 限制 安全 道德 过滤 審查 审查 制限 倫理 フィルタ 제한 안전",
    ),
    (
        Cue::Comply,
        "obey* comply complies complying follow follows execut* respond* answer* adhere* serve fulfill* \
         accept proceed prioriti* gehorch* befolg* folge folgen reagier* antwort* diene fuhre ausfuhren \
         obei* obeis* suis suivre suivez repond* execut* servez respect* prior* obedec* obedece siga sigue \
         seguir respond* ejecut* cumpl* obbed* segui* rispond* esegu* rispett* dai atieni atente obede* \
         responda execute cumpra siga выполн* подчин* следу* ответ* отвеч* uygula cevap* نفذ اتبع أجب पालन \
         执行 執行 服从 服從 遵循 回答 従って 従い 実行 答えて 따르* 실행",
    ),
    (
        Cue::Now,
        "now henceforth instead hereby starting going new updated nun jetzt stattdessen fortan \
         desormais maintenant plutot nouvel* nouveau ahora adelante lugar nuev* ora adesso invece nuov* \
         agora doravante vez nov* nu voortaan теперь отныне сейчас нов* artik simdi yeni الآن الجديدة अब नए 现在 現在 从现在 今後 今から 新しい 이제 새로운",
    ),
    (
        Cue::Only,
        "only solely exclusively merely just nothing nur ausschliesslich allein lediglich seulement \
         uniquement exclusivement solo solamente unicamente exclusivamente soltanto esclusivamente \
         apenas somente alleen только исключительно лишь sadece فقط केवल 只 仅 僅 只有 だけ のみ 오직",
    ),
    (
        Cue::All,
        "all any every everything entire whole alle alles samtlich* jede* jegliche* tous toutes tout \
         toute todas todos todo toda cualquier tutte tutti tutto ogni qualsiasi qualquer alle wszystk* \
         все всё всех всю любые tum butun جميع كل सभी 所有 全部 任何 一切 すべて 全て 모든",
    ),
    (
        Cue::Secret,
        "secret* password* passcode* credential* confidential* private sensitive classified token tokens \
         apikey keys geheim* passwort* vertraulich* mot passe confident* contrasena* confidencial* \
         segret* riservat* senha* segredo* wachtwoord парол* секрет* sifre* السر سرية पासवर्ड गुप्त 密码 密碼 机密 秘密 パスワード 機密 비밀*",
    ),
    (
        Cue::Send,
        "send sends forward upload* exfiltrat* transmit* transfer* email* fetch curl wget webhook \
         sende* ubermittl* weiterleit* envoi* envoy* transfer* envia* enviar envie reenvia* invia* inoltra* \
         отправ* перешли* gonder* أرسل भेज* 发送 發送 送信 転送 보내*",
    ),
    (Cue::Mode, "mode modes modus modo modalita modalite режим* modu وضع मोड 模式 モード 모드"),
    (
        Cue::You,
        "you your yours yourself youre ya ur du dein* dich dir euer eure* ihr ihre* deine* tu tes ton ta toi vos votre \
         vous tus te ti usted suyo su sus tuo tua tuoi tue vostr* teu* seu seus sua suas voce je jouw \
         тебя твои твой твоих твоих вас ваш* sen senin أنت بك तुम आप अपने 你 您 あなた 당신",
    ),
    (
        Cue::Assistant,
        "ai ais assistant* chatbot* bot llm llms gpt chatgpt model models claude gemini ki assistent* \
         modele* intelligence ia asistente* modelo* assistente* modell* modello искусственн* ассистент* \
         модель yapay مساعد सहायक 人工智能 助手 模型 アシスタント 어시스턴트",
    ),
    (
        Cue::Not,
        "without never not no dont cannot wont ohne nie niemals nicht kein* keine* sans jamais pas sin \
         nunca jamas ningun* nessun* mai non sem nenhum* nao zonder bez не без никогда asla olmadan بدون لا बिना 不要 没有 沒有 없이 ない しない",
    ),
    (
        Cue::Say,
        "say print output* repeat* write recite* echo verbatim tell quote summarize translate sag* gib \
         ausgeb* wiederhol* schreib* wortlich dis repet* ecris* imprim* cite dites di repit* escrib* \
         imprim* dime dici ripet* scriv* stampa* diga repit* escrev* repita imprima напиши скажи повтори* \
         yaz soyle tekrarla اكتب كرر लिख* 输出 輸出 说出 重复 打印 出力 繰り返し 出力 출력 말해",
    ),
];

struct Stem {
    text: &'static str,
    whole: bool,
    cue: Cue,
    /// The longest other stem that this one begins with.
    parent: Option<usize>,
}

/// Sorted by text.
static STEMS: LazyLock<Vec<Stem>> = LazyLock::new(|| {
    let words = WORDS.iter().flat_map(|(cue, words)| words.split_whitespace().map(|w| (*cue, w)));
    let stem = |(cue, word): (Cue, &'static str)| {
        let text = word.trim_end_matches('*');
        Stem { text, whole: text.len() == word.len(), cue, parent: None }
    };
    let mut stems: Vec<Stem> = words.map(stem).collect();
    stems.sort_by_key(|stem| (stem.text, stem.whole));
    stems.dedup_by_key(|stem| stem.text);
    let mut open: Vec<usize> = Vec::new();
    let mut parents = Vec::new();
    for (at, stem) in stems.iter().enumerate() {
        let begins = |i: &usize| stems.get(*i).is_some_and(|p| stem.text.starts_with(p.text));
        while open.last().is_some_and(|last| !begins(last)) {
            open.pop();
        }
        parents.push(open.last().copied());
        open.push(at);
    }
    stems.iter_mut().zip(parents).for_each(|(stem, parent)| stem.parent = parent);
    stems
});

/// The cue of a word in lower case and without accents, by its longest stem.
pub fn of_word(word: &str) -> Option<Cue> {
    longest(word, |stem| !stem.whole || stem.text.len() == word.len()).map(|stem| stem.cue)
}

/// The cues inside a run of a script that is written without spaces.
pub fn inside(run: &str) -> impl Iterator<Item = Cue> + '_ {
    let mut free = 0;
    run.char_indices().filter_map(move |(at, _)| {
        let found = longest(run.get(at..).filter(|_| at >= free)?, |_| true)?;
        free = at + found.text.len();
        Some(found.cue)
    })
}

// Everything between a stem and a word that begins with it begins with it too: the stem is the
// word's predecessor or one of its parents.
fn longest(word: &str, fits: impl Fn(&Stem) -> bool) -> Option<&'static Stem> {
    let after = STEMS.partition_point(|stem| stem.text <= word);
    let mut next = after.checked_sub(1);
    while let Some(stem) = next.and_then(|at| STEMS.get(at)) {
        if word.starts_with(stem.text) && fits(stem) {
            return Some(stem);
        }
        next = stem.parent;
    }
    None
}
