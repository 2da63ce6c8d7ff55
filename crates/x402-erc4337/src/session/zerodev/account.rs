//! [Kernel v3 accounts](https://github.com/zerodevapp/kernel): version, factory and owner from initCode, and the
//! CREATE2 address.

use alloy_primitives::{Address, B256, Bytes, FixedBytes, U256, address, b256, hex, keccak256};
use alloy_sol_types::{SolCall, sol};

use crate::Init;

/// The factory of factories, staked so that bundlers take it.
pub const META_FACTORY: Address = address!("d703aaE79538628d27099B8c4f621bE4CCd142d5");
/// The validator of an owner who is an EOA.
pub const ECDSA_VALIDATOR: Address = address!("845ADb2C711129d4f3966735eD98a9F09fC4cE57");

sol! {
    function deployWithFactory(address factory, bytes createData, bytes32 salt) external payable returns (address);
    function createAccount(bytes data, bytes32 salt) external payable returns (address);
    function initialize(bytes21 rootValidator, address hook, bytes validatorData, bytes hookData, bytes[] initConfig) external;
}

/// The Kernels that this crate knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KernelVersion {
    /// 0.3.1
    V031,
    /// 0.3.2
    V032,
    /// 0.3.3
    V033,
}

impl KernelVersion {
    /// Every version, oldest first.
    pub const ALL: [Self; 3] = [Self::V031, Self::V032, Self::V033];

    /// `0.3.1`, `0.3.2` or `0.3.3`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V031 => "0.3.1",
            Self::V032 => "0.3.2",
            Self::V033 => "0.3.3",
        }
    }

    /// The version that an account names by `accountId()`: `kernel.advanced.v0.3.1`.
    #[must_use]
    pub fn from_account_id(id: &str) -> Option<Self> {
        let version = id.strip_prefix("kernel.advanced.v")?;
        Self::ALL.into_iter().find(|v| v.as_str() == version)
    }

    /// The factory of this version.
    #[must_use]
    pub const fn factory(self) -> Address {
        match self {
            Self::V031 => address!("aac5D4240AF87249B3f71BC8E4A2cae074A3E419"),
            Self::V032 => address!("7a1dBAB750f12a90EB1B60D2Ae3aD17D4D81EfFe"),
            Self::V033 => address!("2577507b78c2008Ff367261CB6285d44ba5eF2E9"),
        }
    }

    /// The version whose factory this is.
    pub(super) fn of_factory(factory: Address) -> Option<Self> {
        Self::ALL.into_iter().find(|version| version.factory() == factory)
    }

    /// The implementation: what a proxy or an EIP-7702 delegation points to.
    #[must_use]
    pub const fn implementation(self) -> Address {
        match self {
            Self::V031 => address!("BAC849bB641841b44E965fB01A4Bf5F074f84b4D"),
            Self::V032 => address!("D830D15D3dc0C269F3dBAa0F3e8626d33CFdaBe1"),
            Self::V033 => address!("d6CEDDe84be40893d153Be9d467CD6aD37875b28"),
        }
    }

    const fn init_code_hash(self) -> B256 {
        match self {
            Self::V031 => b256!("85d96aa1c9a65886d094915d76ccae85f14027a02c1647dde659f869460f03e6"),
            Self::V032 => b256!("c7c48c9dd12de68b8a4689b6f8c8c07b61d4d6fa4ddecdd86a6980d045fa67eb"),
            Self::V033 => b256!("c452397f1e7518f8cea0566ac057e243bb1643f6298aba8eec8cdee78ee3b3dd"),
        }
    }
}

/// A Kernel whose owner is an EOA, as its initCode makes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelAccount {
    /// Which Kernel.
    pub version: KernelVersion,
    /// Whether the meta factory makes it, or the version's own factory directly.
    pub meta_factory: bool,
    /// Who signs for the root validator.
    pub owner: Address,
    /// Which of the owner's accounts.
    pub salt: B256,
}

/// initCode that is not one of a Kernel with an ECDSA owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AccountError {
    /// Neither `deployWithFactory` nor `createAccount` of a Kernel 0.3.1 to 0.3.3, or bytes beside it.
    #[error("initCode makes no Kernel 0.3.1 to 0.3.3")]
    NotKernel,
    /// The factory is not on the list of those whose addresses are recomputed.
    #[error("unknown factory {0}")]
    Factory(Address),
    /// The root validator is not the ECDSA validator, so nothing says who the owner is.
    #[error("unsupported root validator {0}")]
    RootValidator(FixedBytes<21>),
    /// A hook or modules that are installed at birth: they may permit what no policy does.
    #[error("initCode installs a hook or modules")]
    Extra,
    /// The factory belongs to another version than was asked for.
    #[error("the account address is not the one that initCode makes")]
    Address,
}

impl KernelAccount {
    /// The `index`-th account of an owner, made by the meta factory as the SDK does.
    #[must_use]
    pub fn new(version: KernelVersion, owner: Address, index: U256) -> Self {
        Self { version, meta_factory: true, owner, salt: index.into() }
    }

    /// Reads factory data. Only bytes that [`factory_data`](Self::factory_data) writes are read.
    ///
    /// # Errors
    /// Another factory, validator, hook or module.
    pub fn from_factory_data(data: &[u8]) -> Result<Self, AccountError> {
        Self::from_read(FactoryData::read(data)?)
    }

    fn from_read(data: FactoryData) -> Result<Self, AccountError> {
        let version = match data.factory {
            Some(factory) => KernelVersion::of_factory(factory).ok_or(AccountError::Factory(factory))?,
            // Direct factories of 0.3.1 and later take the same calldata; which one it is, the address says.
            None => KernelVersion::V031,
        };
        Ok(Self { version, meta_factory: data.factory.is_some(), owner: data.owner, salt: data.salt })
    }

    /// Reads factory data for an account whose address is known: the address must be the one that it makes.
    ///
    /// # Errors
    /// As [`from_factory_data`](Self::from_factory_data), and [`AccountError::Address`].
    pub fn at(address: Address, factory_data: &[u8]) -> Result<Self, AccountError> {
        Self::made_at(address, FactoryData::read(factory_data)?)
    }

    pub(super) fn made_at(address: Address, data: FactoryData) -> Result<Self, AccountError> {
        let account = Self::from_read(data)?;
        let versions: &[KernelVersion] = if account.meta_factory { &[account.version] } else { &KernelVersion::ALL };
        versions
            .iter()
            .map(|version| Self { version: *version, ..account })
            .find(|a| a.address() == address)
            .ok_or(AccountError::Address)
    }

    /// `CREATE2(factory, keccak(createData ‖ salt), initCodeHash)`.
    #[must_use]
    pub fn address(&self) -> Address {
        let salt = keccak256([&self.create_data()[..], self.salt.as_slice()].concat());
        self.version.factory().create2(salt, self.version.init_code_hash())
    }

    /// The contract that is called to make the account.
    #[must_use]
    pub const fn factory(&self) -> Address {
        if self.meta_factory { META_FACTORY } else { self.version.factory() }
    }

    /// What it is called with.
    #[must_use]
    pub fn factory_data(&self) -> Bytes {
        self.data().write()
    }

    /// How an operation makes the account.
    #[must_use]
    pub fn init(&self) -> Init {
        Init::Factory { factory: self.factory(), data: self.factory_data() }
    }

    pub(super) fn data(&self) -> FactoryData {
        let factory = self.meta_factory.then(|| self.version.factory());
        FactoryData { factory, owner: self.owner, salt: self.salt }
    }

    fn create_data(&self) -> Bytes {
        self.data().create_data()
    }
}

/// What the factory data of a Kernel hold, whoever its factory is.
#[derive(Debug, Clone, Copy)]
pub(super) struct FactoryData {
    /// The factory behind the meta factory; `None` where the data are for the factory itself, which they do not name.
    pub(super) factory: Option<Address>,
    /// Who signs for the root validator.
    pub(super) owner: Address,
    salt: B256,
}

impl FactoryData {
    /// Only bytes that [`write`](Self::write) writes are read.
    pub(super) fn read(data: &[u8]) -> Result<Self, AccountError> {
        let (factory, create, salt) = if data.starts_with(&deployWithFactoryCall::SELECTOR) {
            let call = deployWithFactoryCall::abi_decode(data).map_err(|_| AccountError::NotKernel)?;
            (Some(call.factory), call.createData, call.salt)
        } else {
            let call = createAccountCall::abi_decode(data).map_err(|_| AccountError::NotKernel)?;
            (None, call.data, call.salt)
        };
        let init = initializeCall::abi_decode(&create).map_err(|_| AccountError::NotKernel)?;
        if !init.hook.is_zero() || !init.hookData.is_empty() || !init.initConfig.is_empty() {
            return Err(AccountError::Extra);
        }
        if init.rootValidator != root_validator() {
            return Err(AccountError::RootValidator(init.rootValidator));
        }
        let owner: [u8; 20] = init.validatorData.as_ref().try_into().map_err(|_| AccountError::NotKernel)?;
        let read = Self { factory, owner: owner.into(), salt };
        if *read.write() == *data { Ok(read) } else { Err(AccountError::NotKernel) }
    }

    fn write(&self) -> Bytes {
        let (create, salt) = (self.create_data(), self.salt);
        let data = match self.factory {
            Some(factory) => deployWithFactoryCall { factory, createData: create, salt }.abi_encode(),
            None => createAccountCall { data: create, salt }.abi_encode(),
        };
        data.into()
    }

    /// The factory data as the SDK spells it: validator and owner keep the upper case of their checksums.
    pub(super) fn text(&self) -> String {
        let mut text = hex::encode_prefixed(self.write());
        // Salt and offsets stand before them, so the last ones are those of `initialize`.
        for (before, address) in [("3c3b752b01", ECDSA_VALIDATOR), ("", self.owner)] {
            let checksum = address.to_checksum(None);
            let digits = checksum.trim_start_matches("0x");
            let found = text.rfind(&format!("{before}{}", digits.to_lowercase()));
            if let Some(at) = found.and_then(|at| at.checked_add(before.len())) {
                text.replace_range(at..at + digits.len(), digits);
            }
        }
        text
    }

    fn create_data(&self) -> Bytes {
        let call = initializeCall {
            rootValidator: root_validator(),
            hook: Address::ZERO,
            validatorData: Bytes::copy_from_slice(self.owner.as_slice()),
            hookData: Bytes::new(),
            initConfig: Vec::new(),
        };
        call.abi_encode().into()
    }
}

/// `0x01 ‖ validator`.
fn root_validator() -> FixedBytes<21> {
    FixedBytes::<1>::repeat_byte(1).concat_const(ECDSA_VALIDATOR.0)
}
